#!/usr/bin/env python3
"""Compares keel's store with etcd's in one run, on one disk: writes, memory, restart, the death of a
leader. Prints a Markdown table.

    benches/store.py [--keel target/release/keel] [--load target/release/load] [--runs 7] [--only PART]

Needs root, ip, etcd and etcdctl (Debian: etcd-server, etcd-client), and keel and the program that
writes: `cargo build --release -p agent -p load`. Everything is made in a folder below TMPDIR, which
is on the disk that is measured, and in a network of its own, and removed at the end.

What is written are ConfigMaps of 1 KiB of JSON, each of another name; etcd gets the same text under
the key that Kubernetes would give it. etcd runs with its defaults. It is asked over gRPC, by one
connection, as Kubernetes' API server does. keel is asked in the two ways of its users:

- `store`: within the process that leads, as its controllers and Git sources write. There is no
  API on the way, as there is with etcd: that a write needs none is a part of the comparison. Three
  such processes talk over Unix sockets.
- `API`: ConfigMaps that are there are replaced (PUT) through Kubernetes' API at the agent's socket,
  each client by a connection that is kept. etcd does less than that. Three agents talk by mutual TLS,
  as three members of etcd do not.

`the disk alone` is a write of the same size at a place that the file has already, and fdatasync.
A run of each follows a run of each other, so that a noisy machine disturbs all alike: ratios count.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import apart  # noqa: E402
from measure import memory_mib  # noqa: E402
from stores import Agents, Bare, Etcd, Load  # noqa: E402
from table import Table  # noqa: E402

# Seconds after which a store is at rest.
REST = 20
OBJECTS = 100_000
# By 100 clients, in one run.
WRITTEN = 10_000
PARTS = ["one", "three", "many", "crash"]


def writes(table: Table, title: str, subjects: dict, runs: int, disk):
    """`subjects`: by the way in which keel is asked, keel; and etcd, beside each."""
    collected = {}
    # The first round warms up.
    for number in range(runs + 1):
        for way, subject in subjects.items():
            one, many = subject.write(1, 500), subject.write(100, WRITTEN)
            values = {f"one client, {name}, ms": one[name] for name in ["p50", "p90", "p99"]}
            values |= {"100 clients, writes/s": many["per_second"], "100 clients, p50, ms": many["p50"]}
            note(collected, way, values, number)
        note(collected, "disk", {f"one client, {name}, ms": value for name, value in disk().items()}, number)
    compare(table, title, collected)


def compare(table: Table, title: str, collected: dict):
    """Adds what was collected by way: keel by each way, and beside each the others."""
    for way in [way for way in collected if way not in ["etcd", "disk"]]:
        for name, samples in collected[way].items():
            measure = f"{title}, {way}: {name}"
            table.add(measure, "keel", samples)
            table.add(measure, Etcd.name, collected["etcd"][name])
            if name in collected.get("disk", {}):
                table.add(measure, "the disk alone", collected["disk"][name])


def note(collected: dict, way: str, values: dict, number: int):
    for name, value in values.items():
        if number:
            collected.setdefault(way, {}).setdefault(name, []).append(value)


def disk_of(load: Load, folder: Path):
    def measure() -> dict:
        answer = load.run("disk", folder / "disk", "--count", 500)
        return {name: answer[name] for name in ["p50", "p90", "p99"]}

    return measure


def filled(table: Table, subjects: dict, restarts: int):
    """Memory with all the objects, and how long it takes to come back to them."""
    collected = {}
    for way, subject in subjects.items():
        subject.open()
        prefix = subject.fill(OBJECTS)
        time.sleep(REST)
        values = {f"memory, {kind}, MiB": [value] for kind, value in memory_mib(subject.pids()).items()}
        took = [restart(subject, f"{prefix}-000007") for _ in range(restarts)]
        collected[way] = {**values, "killed, started → a read is answered, ms": took}
        subject.close()
    compare(table, f"{OBJECTS} objects", collected)


def restart(subject, name: str) -> float:
    subject.programs[0].kill()
    begun = time.monotonic_ns()
    subject.start(0)
    subject.find(name)
    took = (time.monotonic_ns() - begun) / 1e6
    time.sleep(1)
    return took


def crashes(table: Table, subjects: dict, runs: int):
    collected = {way: {} for way in subjects}
    for _ in range(runs):
        for way, subject in subjects.items():
            collected[way].setdefault("longest gap, ms", []).append(subject.crash(10))
    for values in collected.values():
        values[f"the worst of {runs}, ms"] = [max(values["longest gap, ms"])]
    compare(table, "3 nodes, the leader killed -9", collected)


def main() -> int:
    target = Path(__file__).resolve().parent.parent / "target/release"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=target / "keel")
    parser.add_argument("--load", type=Path, default=target / "load")
    parser.add_argument("--runs", type=int, default=7, help="of each short measure")
    parser.add_argument("--crashes", type=int, default=7, help="of a leader")
    parser.add_argument("--only", choices=PARTS, action="append", help="one node, three nodes, many objects, a leader's death")
    args = parser.parse_args()
    apart.move_out()
    table, parts = Table(), args.only or PARTS
    with apart.folder() as folder, contextlib.ExitStack() as opened:
        load = Load(args.load.resolve())
        disk = disk_of(load, folder)

        def running(those: dict) -> contextlib.ExitStack:
            stack = opened.enter_context(contextlib.ExitStack())
            for subject in those.values():
                stack.callback(subject.close)
                subject.open()
            return stack

        def subjects(size: int, port: int, objects: int) -> dict:
            agents = Agents(folder, load, args.keel.resolve(), size, objects)
            return {"store": Bare(folder, load, size), "etcd": Etcd(folder, load, size, port), "API": agents}

        if "one" in parts:
            those = subjects(1, 21000, WRITTEN)
            with running(those):
                writes(table, "1 node", those, args.runs, disk)
        if "three" in parts or "crash" in parts:
            those = subjects(3, 22000, WRITTEN)
            with running(those):
                if "three" in parts:
                    writes(table, "3 nodes", those, args.runs, disk)
                if "crash" in parts:
                    crashes(table, those, args.crashes)
        if "many" in parts:
            those = subjects(1, 23000, OBJECTS)
            for subject in those.values():
                opened.callback(subject.close)
            filled(table, those, 3)
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
