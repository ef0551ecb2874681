#!/usr/bin/env python3
"""Compares the throughput between pods, on one node and on two, with the same made by hand from the
kernel's own parts: a bridge with veth pairs, a VXLAN device with static entries, routes. Prints a Markdown
table.

    benches/network.py [--overlay target/release/examples/overlay] [--runs 5] [--seconds 2]

Needs root, ip, nft and iperf3 (Debian: iproute2, nftables, iperf3), and the program that makes nodes:
`cargo build --release -p netstack --example overlay`. Everything is in network namespaces of its own, which
are removed at the end.

keel has all its rules in force, those for services too; the long way is the same without the fast path. By hand there
are no rules of nftables, and so no connection tracking; `masqueraded` has one rule more, which hides pods from the
world, as flannel has it and keel too. Two nodes are connected by a veth pair. The sender has the
first processor, the receiver the second. A run of each follows a run of each other, so that a noisy machine disturbs
all alike: the shares, of runs of one round, count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}: {done.stderr[:2000]}")
    return done.stdout


class Site:
    """Two nodes with two pods each, joined by a cable."""

    def __init__(self, name: str):
        self.prefix = f"keelnet-{os.getpid()}-{name}"
        self.sleepers: dict[str, subprocess.Popen] = {}
        self.addresses: dict[str, str] = {}

    def space(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def inside(self, name: str, *words: str) -> str:
        return run("ip", "netns", "exec", self.space(name), *words)

    def __enter__(self):
        for name in ["a", "b", "a1", "a2", "b1", "b2"]:
            run("ip", "netns", "add", self.space(name))
            self.inside(name, "ip", "link", "set", "lo", "up")
            words = ["ip", "netns", "exec", self.space(name), "sleep", "infinity"]
            self.sleepers[name] = subprocess.Popen(words)
        peer = ["peer", "name", "up0", "netns", self.space("b")]
        self.inside("a", "ip", "link", "add", "up0", "type", "veth", *peer)
        for name, address in [("a", "192.0.2.1/24"), ("b", "192.0.2.2/24")]:
            self.inside(name, "ip", "addr", "add", address, "dev", "up0")
            self.inside(name, "ip", "link", "set", "up0", "up")
            self.inside(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        return self

    def __exit__(self, *_):
        for sleeper in self.sleepers.values():
            sleeper.kill()
            sleeper.wait()
        for name in self.sleepers:
            subprocess.run(["ip", "netns", "del", self.space(name)], check=False)

    def by_keel(self, program: str, backend: str, speed: str = "fast") -> None:
        for number, (node, other) in enumerate([("a", "b"), ("b", "a")]):
            pods = [f"{node}1", f"{node}2"]
            words = [
                f"10.244.{number}.0/24", f"192.0.2.{number + 1}",
                f"10.244.{1 - number}.0/24", f"192.0.2.{2 - number}",
                *(str(self.sleepers[pod].pid) for pod in pods),
            ]
            said = self.inside(node, program, speed, backend, *words)
            self.addresses.update(zip(pods, said.split()))

    def by_hand(self, backend: str, masqueraded: bool) -> None:
        mtu = "1450" if backend == "vxlan" else "1500"
        for number, node in enumerate(["a", "b"]):
            self.inside(node, "ip", "link", "add", "br0", "type", "bridge")
            self.inside(node, "ip", "addr", "add", f"10.244.{number}.1/24", "dev", "br0")
            self.inside(node, "ip", "link", "set", "br0", "up")
            for pod in [1, 2]:
                name, address = f"{node}{pod}", f"10.244.{number}.{pod + 1}"
                peer = ["peer", "name", "eth0", "mtu", mtu, "netns", self.space(name)]
                self.inside(node, "ip", "link", "add", f"v{pod}", "mtu", mtu, "master", "br0", "up", "type",
                            "veth", *peer)
                self.inside(name, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
                self.inside(name, "ip", "link", "set", "eth0", "up")
                self.inside(name, "ip", "route", "add", "default", "via", f"10.244.{number}.1")
                self.addresses[name] = address
            self.lead(node, number, backend)
            if masqueraded:
                chain = "chain p { type nat hook postrouting priority 100; ip saddr 10.244.0.0/16 "
                rule = f"table ip hide {{ {chain} ip daddr != 10.244.0.0/16 masquerade; }}; }}"
                self.inside(node, "nft", rule)

    def lead(self, node: str, number: int, backend: str) -> None:
        other, far = 1 - number, f"192.0.2.{2 - number}"
        if backend != "vxlan":
            self.inside(node, "ip", "route", "add", f"10.244.{other}.0/24", "via", far)
            return
        local = f"192.0.2.{number + 1}"
        self.inside(node, "ip", "link", "add", "vx0", "address", f"02:00:00:00:00:0{number}", "mtu", "1450",
                    "type", "vxlan", "id", "1", "dstport", "4789", "local", local, "nolearning")
        self.inside(node, "ip", "link", "set", "vx0", "up")
        mac = f"02:00:00:00:00:0{other}"
        self.inside(node, "bridge", "fdb", "add", mac, "dev", "vx0", "dst", far)
        self.inside(node, "ip", "neigh", "add", f"10.244.{other}.0", "lladdr", mac, "dev", "vx0")
        self.inside(node, "ip", "route", "add", f"10.244.{other}.0/24", "via", f"10.244.{other}.0", "dev", "vx0",
                    "onlink")

    def throughput(self, source: str, target: str, seconds: float) -> float:
        """Gigabits in a second, of one TCP stream."""
        words = ["ip", "netns", "exec", self.space(target), "taskset", "-c", "1", "iperf3", "-s", "-1",
                 "--forceflush"]
        server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        while "listening" not in server.stdout.readline():
            if server.poll() is not None:
                raise SystemExit("iperf3 does not listen")
        said = self.inside(source, "taskset", "-c", "0", "iperf3", "-c", self.addresses[target], "-t",
                           str(seconds), "-J")
        server.stdout.read()
        server.wait()
        return json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e9


MEASURES = [
    ("one node", "host-gw", "a1", "a2"),
    ("two nodes, host-gw", "host-gw", "a1", "b1"),
    ("two nodes, vxlan", "vxlan", "a1", "b1"),
]


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlay", default="target/release/examples/overlay")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    args = parser.parse_args()
    program = str(Path(args.overlay).resolve())
    names = ["keel", "by hand", "masqueraded", "keel, the long way"]
    print(f"| pod to pod, one TCP stream, Gbit/s | {' | '.join(names)} | to {' | to '.join(names[1:])} |")
    print("|---" * (2 * len(names)) + "|")
    for title, backend, source, target in MEASURES:
        with Site("k") as keel, Site("h") as hand, Site("m") as hidden, Site("l") as slow:
            keel.by_keel(program, backend)
            hand.by_hand(backend, False)
            hidden.by_hand(backend, True)
            slow.by_keel(program, backend, "slow")
            rounds = []
            for number in range(args.runs + 1):
                sites = [keel, hand, hidden, slow]
                order = sites if number % 2 else reversed(sites)
                took = {site: site.throughput(source, target, args.seconds) for site in order}
                rounds.append([took[site] for site in sites])
        # The first is to warm up.
        columns = [list(column) for column in zip(*rounds[1:])]
        shares = [[one / other for one, other in zip(columns[0], others)] for others in columns[1:]]
        print(f"| {title} | {' | '.join(map(spread, columns + shares))} |", flush=True)


if __name__ == "__main__":
    main()
