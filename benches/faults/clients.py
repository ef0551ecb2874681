"""Clients that write, and know what was acknowledged.

Each has an object of its own with a number in it, and replaces it by the next number if it is still as
the client last saw it (its resourceVersion). What was answered with 200 is acknowledged. Whoever hears
something else does not know; it reads, and goes on from what is there. So an acknowledged write that is
lost, or one that is done twice, breaks a chain."""

import contextlib
import http.client
import json
import random
import threading
import time

from members import Members

PATH = "/api/v1/namespaces/default/configmaps"
# Clients that pick a member anew for each write; there is one more at each member.
WANDERERS = 3
CLIENTS = WANDERERS + 3
# Seconds after which a client asks somebody else.
PATIENCE = 2
# Seconds within which a hurt cluster has to take a write.
DEADLINE = 60


class Await:
    """The first acknowledged write that was begun after now, by `member` if one is named."""

    def __init__(self, member: int | None):
        self.member, self.since = member, time.monotonic()
        self.done, self.took_ms = threading.Event(), 0.0

    def note(self, begun: float, member: int):
        if begun >= self.since and self.member in [None, member] and not self.done.is_set():
            self.took_ms = (time.monotonic() - self.since) * 1e3
            self.done.set()

    def wait(self) -> float:
        """Milliseconds from the beginning to the acknowledgement."""
        if not self.done.wait(DEADLINE):
            raise TimeoutError(f"no write was acknowledged for {DEADLINE} s")
        return self.took_ms


class Trial:
    """What all clients know together."""

    def __init__(self):
        self.over, self.awaited, self.lock = False, [], threading.Lock()
        self.acknowledged, self.last, self.longest_ms = 0, time.monotonic(), 0.0

    def note(self, begun: float, member: int):
        with self.lock:
            now = time.monotonic()
            self.longest_ms, self.last = max(self.longest_ms, (now - self.last) * 1e3), now
            self.acknowledged += 1
            for awaited in self.awaited:
                awaited.note(begun, member)
            self.awaited = [awaited for awaited in self.awaited if not awaited.done.is_set()]

    def await_write(self, member: int | None = None) -> Await:
        with self.lock:
            self.awaited.append(Await(member))
            return self.awaited[-1]

    def longest(self) -> float:
        """The longest time between two acknowledgements since it was asked last, in milliseconds."""
        with self.lock:
            longest, self.longest_ms = self.longest_ms, 0.0
            return longest


class Chain(threading.Thread):
    """One client. `acknowledged` is the last number that was, `broken` what must not be."""

    def __init__(self, members: Members, number: int, trial: Trial):
        super().__init__(daemon=True)
        self.members, self.trial, self.target = members, trial, f"{PATH}/filled-{number:06}"
        self.home = number - WANDERERS if number >= WANDERERS else None
        self.acknowledged, self.broken = 0, []

    def newest(self) -> dict | None:
        """The newest object that any member shows; none if it is over."""
        found = []
        while not found and not self.trial.over:
            for member in range(self.members.size):
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    status, answer = self.members.ask(member, "GET", self.target, seconds=PATIENCE)
                    found += [answer] if status == 200 else []
            time.sleep(0.01)
        return max(found, key=lambda each: int(each["metadata"]["resourceVersion"]), default=None)

    def run(self):
        known, unclear = self.newest(), False
        known["data"] = {"number": "0"}
        while not self.trial.over:
            wanted = json.loads(json.dumps(known))
            wanted["data"]["number"] = str(int(known["data"]["number"]) + 1)
            member = random.randrange(self.members.size) if self.home is None else self.home
            begun = time.monotonic()
            try:
                status, answer = self.members.ask(member, "PUT", self.target, wanted, PATIENCE)
            except (OSError, http.client.HTTPException, ValueError):
                status, answer = 0, {}
            if status == 200:
                known, unclear = answer, False
                self.acknowledged = int(known["data"]["number"])
                self.trial.note(begun, member)
            elif status == 409:
                known, unclear = self.judge(known, unclear)
            else:
                unclear = True
                time.sleep(0.005)

    def judge(self, known: dict, unclear: bool) -> tuple[dict, bool]:
        """Somebody changed it: it can only have been this client, by the write it heard nothing clear of."""
        found = self.newest()
        if found is None:
            return known, unclear
        before, now = int(known["data"].get("number", 0)), int(found["data"].get("number", 0))
        if now == before + 1 and unclear:
            return found, False
        if now == before and unclear:
            return known, unclear  # No member shows the newest yet: asked again, it conflicts again, or is done.
        self.broken.append(f"{self.target}: knows {before}, finds {now}")
        return found, False


@contextlib.contextmanager
def writing(members: Members):
    """All clients write meanwhile. Gives the trial and its chains."""
    trial = Trial()
    chains = [Chain(members, number, trial) for number in range(CLIENTS)]
    for chain in chains:
        chain.start()
    try:
        yield trial, chains
    finally:
        trial.over = True
        for chain in chains:
            chain.join()
