#!/usr/bin/env python3
"""Kills the leader of three agents again and again while clients write, and looks for what is lost.

    benches/kills.py [--keel target/release/keel] [--load target/release/load] [--rounds 100] [--by kill,stop]

Needs root, and keel and the program that prepares the store: `cargo build --release -p agent -p load`.
Everything is made in a folder below TMPDIR and in a network of its own, and removed at the end.

Each client has an object of its own with a number in it, and replaces it by the next number if it is
still as the client last saw it (its resourceVersion), through a member that it picks anew each time.
What was answered with 200 is acknowledged. Whoever hears something else does not know; it reads, and
goes on from what is there. So an acknowledged write that is lost, or one that is done twice, breaks a
chain: it is told, and the exit code is 1. The members must hold the same at the end.

`kill` is SIGKILL, and a start 0.2 to 0.8 s later. `stop` is SIGSTOP for three seconds, longer than any
lease. The time without a leader is from the signal to the first acknowledged write that was begun after it.
"""

import argparse
import contextlib
import http.client
import json
import random
import signal
import socket
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import apart  # noqa: E402
from measure import wait  # noqa: E402
from stores import Agents, Load  # noqa: E402

CLIENTS = 6
PATH = "/api/v1/namespaces/default/configmaps"
# Seconds for which a member is stopped.
STOPPED = 3


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path):
        super().__init__("localhost", timeout=15)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def ask(path: Path, method: str, target: str, body: dict | None = None) -> tuple[int, dict]:
    with contextlib.closing(Unix(path)) as connection:
        connection.request(method, target, json.dumps(body) if body else None, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


class Chain(threading.Thread):
    """One client. `acknowledged` is the last number that was, `broken` what must not be."""

    def __init__(self, agents: Agents, number: int, trial: "Trial"):
        super().__init__()
        self.agents, self.trial, self.target = agents, trial, f"{PATH}/filled-{number:06}"
        self.acknowledged, self.broken = 0, []

    def newest(self) -> dict:
        """The newest object that any member shows."""
        found = []
        while not found:
            for member in range(self.agents.size):
                with contextlib.suppress(OSError, http.client.HTTPException):
                    status, answer = ask(self.agents.socket(member), "GET", self.target)
                    found += [answer] if status == 200 else []
            time.sleep(0.01)
        return max(found, key=lambda each: int(each["metadata"]["resourceVersion"]))

    def run(self):
        known, unclear = self.newest(), False
        known["data"] = {"number": "0"}
        while not self.trial.over:
            wanted = json.loads(json.dumps(known))
            wanted["data"]["number"] = str(int(known["data"]["number"]) + 1)
            begun = time.monotonic()
            try:
                status, answer = ask(self.agents.socket(random.randrange(self.agents.size)), "PUT", self.target, wanted)
            except (OSError, http.client.HTTPException):
                status, answer = 0, {}
            if status == 200:
                known, unclear = answer, False
                self.acknowledge(known, begun)
            elif status == 409:
                known, unclear = self.judge(known, self.newest(), unclear)
            else:
                unclear = True
                time.sleep(0.005)

    def acknowledge(self, known: dict, begun: float):
        self.acknowledged = int(known["data"]["number"])
        self.trial.note(begun)

    def judge(self, known: dict, found: dict, unclear: bool) -> tuple[dict, bool]:
        """Somebody changed it: it can only have been this client, by the write it heard nothing clear of."""
        before, now = int(known["data"].get("number", 0)), int(found["data"].get("number", 0))
        if now == before + 1 and unclear:
            return found, False
        if now == before and unclear:
            return known, unclear  # No member shows the newest yet: asked again, it conflicts again, or is done.
        self.broken.append(f"{self.target}: knows {before}, finds {now}")
        return found, False


class Trial:
    def __init__(self):
        self.over, self.since, self.first = False, None, threading.Event()
        self.count, self.lock = 0, threading.Lock()

    def note(self, begun: float):
        with self.lock:
            self.count += 1
            if self.since is not None and begun >= self.since:
                self.gap, self.since = time.monotonic() - self.since, None
                self.first.set()

    def begin(self):
        with self.lock:
            self.first.clear()
            self.since = time.monotonic()


def hurt(agents: Agents, way: str, trial: Trial) -> float:
    """One round; returns the milliseconds without a leader."""
    wait(lambda: agents.leader() is not None, "a leader")
    leader = agents.leader()
    program = agents.programs[leader]
    trial.begin()
    if way == "kill":
        program.kill()
    else:
        program.process.send_signal(signal.SIGSTOP)
    hurt_at = time.monotonic()
    if not trial.first.wait(120):
        raise TimeoutError("no write was acknowledged for two minutes")
    gap = trial.gap * 1e3
    if way == "kill":
        time.sleep(random.uniform(0.2, 0.8))
        agents.start(leader)
    else:
        time.sleep(max(0.0, hurt_at + STOPPED - time.monotonic()))
        program.process.send_signal(signal.SIGCONT)
    wait(lambda: agents.members(leader), "the member to answer")
    time.sleep(random.uniform(0.2, 0.8))
    return gap


def shown(agents: Agents, member: int) -> list[dict]:
    answers = [ask(agents.socket(member), "GET", f"{PATH}/filled-{number:06}")[1] for number in range(CLIENTS)]
    return [answer["data"] for answer in answers]


def main() -> int:
    target = Path(__file__).resolve().parent.parent / "target/release"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=target / "keel")
    parser.add_argument("--load", type=Path, default=target / "load")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--by", default="kill", help="kill, stop, or both by turns: kill,stop")
    args = parser.parse_args()
    ways = args.by.split(",")
    if not set(ways) <= {"kill", "stop"}:
        parser.error(f"--by {args.by}: kill, stop or kill,stop")
    apart.move_out()
    with apart.folder() as folder, contextlib.ExitStack() as opened:
        agents = Agents(folder, Load(args.load.resolve()), args.keel.resolve(), 3, CLIENTS)
        opened.callback(agents.close)
        agents.open()
        trial = Trial()
        chains = [Chain(agents, number, trial) for number in range(CLIENTS)]
        for chain in chains:
            chain.start()
        gaps = {way: [] for way in ways}
        try:
            for number in range(args.rounds):
                way = ways[number % len(ways)]
                gaps[way].append(hurt(agents, way, trial))
        finally:
            trial.over = True
            for chain in chains:
                chain.join()
        wait(lambda: shown(agents, 0) == shown(agents, 1) == shown(agents, 2), "the members to hold the same")
        last = shown(agents, 0)
        lost = [chain.target for chain, data in zip(chains, last) if int(data.get("number", 0)) < chain.acknowledged]
        broken = [word for chain in chains for word in chain.broken]
    for way, all_gaps in gaps.items():
        print(f"{way}: {len(all_gaps)} rounds; without a leader: median {statistics.median(all_gaps):.0f} ms, worst {max(all_gaps):.0f} ms")
    print(f"{trial.count} writes acknowledged; lost: {lost or 'none'}; chains broken: {broken or 'none'}")
    return 1 if lost or broken else 0


if __name__ == "__main__":
    sys.exit(main())
