#!/usr/bin/env python3
"""A thousand nodes with thirty pods each, over a store of three members.

    benches/fleet.py [--keel target/release/keel] [--nodes 1000] [--pods 30] [--window 60] [--surge 25%]

Needs root, git, and keel: `cargo build --release`. The nodes are hollow (`keel hollow`): all but the
machine is the agent's own. Everything is made in a folder below TMPDIR and in a network of its own, and
removed at the end.

One Deployment for each of the pods of a node, with as many replicas as there are nodes. Measured are

- the time from the commit until each of the pods is bound, and until each is ready, at first and for a
  commit that changes them all;
- the CPU of the leader and of all members meanwhile, and their memory after it;
- at rest: what the members write to their disks, how far the log grew, and the CPU of the leader.
"""

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import apart  # noqa: E402
from measure import memory_mib, wait  # noqa: E402
from stores import Agents, Program  # noqa: E402

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app-{number}, namespace: default}}
spec:
  replicas: {nodes}
  selector: {{matchLabels: {{app: app-{number}}}}}
  strategy: {{type: RollingUpdate, rollingUpdate: {{maxSurge: {surge}, maxUnavailable: {surge}}}}}
  template:
    metadata: {{labels: {{app: app-{number}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {{evenkeel.dev/hollow: "true"}}
      tolerations: [{{key: evenkeel.dev/hollow, operator: Exists}}]
      containers:
        - name: main
          image: registry.example.org/app:{version}
          env: [{{name: VERSION, value: "{version}"}}]
          resources: {{requests: {{cpu: 10m, memory: 16Mi}}}}
"""


def shown(path: Path, target: str) -> dict:
    """What the agent at the socket `path` answers."""
    with contextlib.closing(http.client.HTTPConnection("localhost", timeout=60)) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", target)
        return json.loads(connection.getresponse().read())


class Fleet(Agents):
    """Three agents that follow one repository, and a process of hollow nodes."""

    def __init__(self, folder: Path, program: Path, nodes: int):
        super().__init__(folder, None, program, 3, 0)
        self.nodes, self.repository, self.work = nodes, folder / "fleet.git", folder / "work"
        self.git("init", "-q", "-b", "main", str(self.work))
        self.git("init", "-q", "--bare", "-b", "main", str(self.repository))

    def git(self, *words):
        names = ["-c", "user.name=fleet", "-c", "user.email=fleet@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *names, *words], check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def configure(self, number: int, join: dict | None = None):
        super().configure(number, join)
        path = self.place(number) / "config.yaml"
        config = json.loads(path.read_text())
        config["sources"] = [{"name": "fleet", "url": str(self.repository), "interval": "1h"}]
        path.write_text(json.dumps(config))

    def prepare(self):
        """Nothing: the store begins empty."""

    def start_hollow(self):
        command = [self.program, "token", "create", "--config", self.place(0) / "config.yaml"]
        token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        place = self.place(9)
        place.mkdir()
        self.configure(9, {"token": token, "servers": [self.address(0)]})
        command = [self.program, "hollow", "--config", place / "config.yaml", "--nodes", self.nodes]
        self.hollow = Program(command, place / "hollow.log", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def commit(self, version: int, pods: int, surge: str):
        for number in range(pods):
            text = DEPLOYMENT.format(number=number, nodes=self.nodes, version=version, surge=surge)
            (self.work / f"app-{number}.yaml").write_text(text)
        self.git("-C", str(self.work), "add", ".")
        self.git("-C", str(self.work), "commit", "-q", "-m", f"Version {version}")
        self.git("-C", str(self.work), "push", "-q", str(self.repository), "main")

    def items(self, target: str) -> list[dict]:
        """As a member shows it that does not lead, so that the leader is not asked."""
        asked = ((self.leader() or 0) + 1) % self.size
        return shown(self.socket(asked), target)["items"]

    def ready_nodes(self) -> int:
        self.hollow.alive()
        ready = [any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
                 for node in self.items("/api/v1/nodes") if node["metadata"]["name"].startswith("hollow-")]
        return sum(ready)

    def close(self):
        if hasattr(self, "hollow"):
            self.hollow.end()
        super().close()


def roll(fleet: Fleet, version: int, pods: int, surge: str) -> dict:
    """Commits, and waits until every pod is of that version, bound and ready, and no other is left."""
    wanted = fleet.nodes * pods
    image = f"registry.example.org/app:{version}"
    before = cpu(fleet)
    fleet.commit(version, pods, surge)
    begun, times = time.monotonic(), {}

    def look() -> bool:
        fleet.hollow.alive()
        deployments = [d for d in fleet.items("/apis/apps/v1/deployments")
                       if d["spec"]["template"]["spec"]["containers"][0]["image"] == image]
        took = time.monotonic() - begun
        if len(deployments) < pods:
            return False
        times.setdefault("agreed", took)
        current = [d.get("status", {}) if d.get("status", {}).get("observedGeneration", 0) >= d["metadata"]["generation"]
                   else {} for d in deployments]
        total = lambda field: sum(status.get(field) or 0 for status in current)
        if total("updatedReplicas") >= wanted:
            times.setdefault("made", took)
        if total("updatedReplicas") == total("readyReplicas") == total("replicas") == wanted:
            times["ready"] = took
        else:
            # Who looks all the time takes from what is measured.
            time.sleep(0.2)
        return "ready" in times

    wait(look, f"version {version} to run everywhere")
    times["cpu"] = {name: after - before[name] for name, after in cpu(fleet).items()}
    return times


def cpu(fleet: Fleet) -> dict[str, float]:
    """Seconds of CPU so far, of the leader, of all members, and of the hollow nodes."""
    used = {number: seconds(program.pid) for number, program in fleet.programs.items()}
    wait(lambda: fleet.leader() is not None, "a leader")
    return {"leader": used[fleet.leader()], "members": sum(used.values()), "hollow": seconds(fleet.hollow.pid)}


def seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def elections(fleet: Fleet) -> int:
    """How often a member took the leader for lost."""
    logs = [program.log.read_text() for program in [*fleet.programs.values(), fleet.hollow]]
    return sum(log.count("the leader is lost") for log in logs)


def written(pid: int) -> int:
    """Bytes that the process had written to disks."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])


def revision(fleet: Fleet) -> int:
    return int(shown(fleet.socket(0), "/api/v1/namespaces")["metadata"]["resourceVersion"])


def settle(fleet: Fleet):
    """Waits until nothing was written for half a minute: events that could not be written are tried
    again after ten seconds."""
    last = [revision(fleet), time.monotonic()]

    def quiet() -> bool:
        now = revision(fleet)
        if now != last[0]:
            last[:] = [now, time.monotonic()]
        return time.monotonic() - last[1] > 30

    wait(quiet, "that nothing is written any more")


def rest(fleet: Fleet, window: float) -> dict:
    settle(fleet)
    pids = fleet.pids()
    disk, log, used = sum(map(written, pids)), revision(fleet), cpu(fleet)
    time.sleep(window)
    per_minute = 60 / window
    now = cpu(fleet)
    return {
        "changes in the log, per minute": (revision(fleet) - log) * per_minute,
        "bytes to the disks of all members, per minute": (sum(map(written, pids)) - disk) * per_minute,
        **{f"cores of {name}": (now[name] - used[name]) / window for name in now},
    }


def main() -> int:
    target = Path(__file__).resolve().parent.parent / "target/release"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=target / "keel")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--pods", type=int, default=30)
    parser.add_argument("--window", type=float, default=60)
    parser.add_argument("--surge", default="25%")
    args = parser.parse_args()
    apart.move_out()
    with apart.folder() as folder, contextlib.ExitStack() as opened:
        fleet = Fleet(folder, args.keel.resolve(), args.nodes)
        opened.callback(fleet.close)
        fleet.open()
        begun = time.monotonic()
        fleet.start_hollow()
        wait(lambda: fleet.ready_nodes() == args.nodes, "all nodes to be ready")
        print(f"{args.nodes} nodes ready after {time.monotonic() - begun:.1f} s")
        for version, what in [(1, "first commit"), (2, "a commit that changes every pod")]:
            times = roll(fleet, version, args.pods, args.surge)
            print(f"{what}: {args.nodes * args.pods} pods; agreed {times['agreed']:.2f} s, all made {times['made']:.2f} s, "
                  f"all ready and the others gone {times['ready']:.2f} s")
            print("  CPU: " + ", ".join(f"{name} {used:.1f} s" for name, used in times["cpu"].items()), flush=True)
        print(f"elections meanwhile: {elections(fleet)}")
        for name, value in rest(fleet, args.window).items():
            print(f"at rest, {name}: {value:.3f}")
        leader = fleet.programs[fleet.leader()].pid
        print("memory of the leader, MiB: " + json.dumps({k: round(v) for k, v in memory_mib([leader]).items()}))
        print("memory of the hollow nodes, MiB: " + json.dumps({k: round(v) for k, v in memory_mib([fleet.hollow.pid]).items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
