#!/usr/bin/env python3
"""A thousand pods come and go in rounds of fifty, the agent is killed at random, and nothing is left.

    sudo scenarios/thousand_pods.py --keel target/release/keel [--rounds 20] [--pods 50] [--seed N]

Needs root, git, iproute2 and busybox-static. Compares mounts, links, cgroups, namespaces, processes,
zombies, the agent's descriptors and the files on disk before and after.
"""

import argparse
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

from node import Node, in_own_network, until


def processes() -> dict[int, str]:
    """The state of every process that this script can see, by its number."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except OSError:
                continue
            found[int(folder.name)] = text.rpartition(") ")[2][0]
    return found


def namespaces() -> set[str]:
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            for kind in ("net", "mnt", "pid", "ipc", "uts", "cgroup", "user"):
                try:
                    found.add(os.readlink(folder / "ns" / kind))
                except OSError:
                    pass
    return found


def cgroups(name: str) -> set[str]:
    return {str(path) for root in Path("/sys/fs/cgroup").glob(f"**/{name}") for path in root.rglob("*/")}


def files(folder: Path) -> set[str]:
    """What pods have on disk; the layers of images and the store are to stay."""
    kept = ("state/pods", "run/pods", "log")
    return {str(path) for place in kept for path in (folder / place).rglob("*")}


def traces(node: Node) -> dict[str, set]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    links = subprocess.check_output(["ip", "-o", "link"], text=True).splitlines()
    return {
        "mounts": {line.split()[4] for line in mounts},
        "links": {line.split(": ")[1].split("@")[0] for line in links},
        "cgroups": cgroups(node.name),
        "files": files(node.folder),
        "supervisors": set(supervisors(node)),
        "zombies": {pid for pid, state in processes().items() if state == "Z"},
        "namespaces": namespaces(),
    }


def supervisors(node: Node) -> list[int]:
    found = []
    for pid in processes():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"supervise" in words and str(node.folder).encode() in b" ".join(words):
            found.append(pid)
    return found


def descriptors(node: Node) -> int:
    return len(list(Path(f"/proc/{node.agent.pid}/fd").iterdir()))


def deployment(replicas: int) -> dict:
    container = {"name": "main", "image": "host:", "command": ["busybox", "sleep", "100000"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "many"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "many"}},
            "template": {
                "metadata": {"labels": {"app": "many"}},
                "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
            },
        },
    }


def running(node: Node) -> int:
    status = node.get("deployment", "many").get("status", {})
    return status.get("readyReplicas", 0)


def killed_meanwhile(node: Node, chance: random.Random, step) -> int:
    """Does `step`; half of the time the agent is killed somewhere in it."""
    step()
    if chance.random() < 0.5:
        return 0
    time.sleep(chance.random())
    node.kill_agent()
    node.start()
    return 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--keel", required=True, type=os.path.abspath)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--pods", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=None)
    given = arguments.parse_args()
    in_own_network()
    seed = given.seed if given.seed is not None else random.randrange(1 << 32)
    chance = random.Random(seed)
    print(f"seed {seed}", flush=True)

    folder = Path(tempfile.mkdtemp(prefix="keel-many-"))
    node = Node(given.keel, folder / "node", cgroupRoot=folder.name, metricsAddress="")
    node.name = folder.name
    try:
        tell(node, chance, given.rounds, given.pods)
    finally:
        node.clear()
        subprocess.check_call(["rm", "-rf", str(folder)])


def tell(node: Node, chance: random.Random, rounds: int, pods: int) -> None:
    node.push("None", many=[deployment(0)])
    node.start()
    until("the deployment", lambda: "many" in node.keel("get", "deployments"))
    # What stays for good after the first pod (the bridge, the root cgroup) is no leak.
    node.push("One", many=[deployment(1)])
    until("one pod", lambda: running(node) == 1)
    node.push("None", many=[deployment(0)])
    until("its end", lambda: not node.get("pods").get("items") and not supervisors(node))
    before, open_before = traces(node), descriptors(node)

    kills = 0
    for round in range(1, rounds + 1):
        begun = time.monotonic()
        kills += killed_meanwhile(node, chance, lambda: node.push("Many", many=[deployment(pods)]))
        until("all pods", lambda: running(node) == pods)
        there = time.monotonic()
        kills += killed_meanwhile(node, chance, lambda: node.push("None", many=[deployment(0)]))
        until("their end", lambda: not node.get("pods").get("items") and not supervisors(node))
        gone = time.monotonic()
        print(f"round {round}: {pods} pods in {there - begun:.1f} s, gone in {gone - there:.1f} s", flush=True)

    # Its last words may still be on their way to the kernel.
    left = lambda: {name: found - before[name] for name, found in traces(node).items() if found - before[name]}
    try:
        until("nothing to be left", lambda: not left())
    except RuntimeError:
        raise SystemExit(f"left: {left()}") from None
    opened = descriptors(node) - open_before
    assert opened <= 0, f"the agent has {opened} more descriptors open than before"
    total = rounds * pods
    print(f"✔ {total} pods, the agent killed {kills} times, nothing left", flush=True)


if __name__ == "__main__":
    main()
