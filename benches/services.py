#!/usr/bin/env python3
"""Compares how services are programmed, and how fast connections come through them, with rule sets of
iptables (legacy and nft) as kube-proxy makes them and with the same maps loaded by `nft -f`. Prints a
Markdown table.

    benches/services.py [--services target/release/examples/services] [--runs 5] [--counts 10,1000,5000,10000]

Needs root, ip, nft and iptables (Debian: iproute2, nftables, iptables), and the program that programs
and connects: `cargo build --release -p netstack --example services`. Everything is in network
namespaces of its own, which are removed at the end.

A client and a server are joined to a bridge by a veth pair each, as pods are. All services have three
endpoints, of which none exists, but for the last, whose one is the server.

- `program`: the time in which all services come into force, where there was none. Of keel from the call
  to the kernel's answer, over its socket; of the others from the start of the command to its end.
- `change`: one endpoint of a service in the middle goes, another comes. The others get only what changes
  (`--noflush`, chains of one service; elements of maps).
- `connections`: new connections in a second, one after the other, through the last service, and directly
  to the server as often in the same round.

A run of each follows a run of each other, so that a noisy machine disturbs all alike: ratios count.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from table import Table  # noqa: E402

ENDPOINTS = 3
SECONDS = 1.0
SERVER = "10.88.0.3"
PORT = 8080


def vip(number: int) -> str:
    return address((10, 96, 1, 0), number)


def address(first: tuple, number: int) -> str:
    value = int.from_bytes(bytes(first), "big") + number
    return ".".join(str(byte) for byte in value.to_bytes(4, "big"))


def endpoints(number: int, count: int, moved: int = 0) -> list[tuple[str, int]]:
    if number == count - 1:
        return [(SERVER, PORT)]
    return [(address((10, 200, 0, 0), number * ENDPOINTS + n + moved), PORT) for n in range(ENDPOINTS)]


class Site:
    """The namespaces."""

    def __init__(self, program: str):
        self.program = program
        pid = os.getpid()
        self.node, self.client, self.server = (f"keelbench-{pid}-{name}" for name in ["n", "c", "s"])
        self.serving = None

    def __enter__(self):
        for name in [self.node, self.client, self.server]:
            run("ip", "netns", "add", name)
            self.inside(name, "ip", "link", "set", "lo", "up")
        self.inside(self.node, "ip", "link", "add", "br0", "type", "bridge")
        self.inside(self.node, "ip", "addr", "add", "10.88.0.1/24", "dev", "br0")
        self.inside(self.node, "ip", "link", "set", "br0", "up")
        self.inside(self.node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for name, ip in [(self.client, "10.88.0.2"), (self.server, SERVER)]:
            link = f"v{ip[-1]}"
            peer = ["peer", "name", "eth0", "netns", name]
            self.inside(self.node, "ip", "link", "add", link, "master", "br0", "up", "type", "veth", *peer)
            self.inside(name, "ip", "addr", "add", f"{ip}/24", "dev", "eth0")
            self.inside(name, "ip", "link", "set", "eth0", "up")
            self.inside(name, "ip", "route", "add", "default", "via", "10.88.0.1")
        words = ["ip", "netns", "exec", self.server, self.program, "serve", str(PORT)]
        self.serving = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self.serving.stdout.readline()
        return self

    def __exit__(self, *_):
        if self.serving:
            self.serving.kill()
            self.serving.wait()
        for name in [self.node, self.client, self.server]:
            subprocess.run(["ip", "netns", "del", name], check=False)

    def inside(self, name: str, *words: str, text: str | None = None) -> str:
        return run("ip", "netns", "exec", name, *words, text=text)

    def timed(self, *words: str, text: str) -> float:
        start = time.perf_counter()
        self.inside(self.node, *words, text=text)
        return (time.perf_counter() - start) * 1e3

    def rate(self, to: str) -> float:
        said = self.inside(self.client, self.program, "connect", to, str(SECONDS))
        return values(said)["per_second"]


def run(*words: str, text: str | None = None) -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)[:200]}: {done.stderr[:2000]}")
    return done.stdout


def values(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in (line.split() for line in text.splitlines())}


class Keel:
    """The maps, over a socket that stays open."""

    name = "keel"

    def measure(self, site: Site, count: int) -> dict[str, float]:
        words = [site.program, "program", "br0", str(count), str(ENDPOINTS), f"{SERVER}:{PORT}"]
        said = values(site.inside(site.node, *words))
        return {"program": said["program"], "change": said["change"], "restart": said["restart"]}


class Nft(Keel):
    """Maps of the same kind, as text for `nft -f`."""

    name = "nft -f"

    def measure(self, site: Site, count: int) -> dict[str, float]:
        took = {"program": site.timed("nft", "-f", "-", text=self.all(count))}
        middle = count // 2
        old, new = endpoints(middle, count), endpoints(middle, count, 1)
        key = f"{vip(middle)} . tcp . 80"
        text = "\n".join(
            [f"delete element ip k endpoints {{ {key} . {n} }}" for n in range(len(old))]
            + [
                f"add element ip k endpoints {{ {key} . {n} : {ip} . {port} }}"
                for n, (ip, port) in enumerate(new)
            ]
        )
        return took | {"change": site.timed("nft", "-f", "-", text=text)}

    def all(self, count: int) -> str:
        services, ends = [], []
        for number in range(count):
            targets = endpoints(number, count)
            key = f"{vip(number)} . tcp . 80"
            services.append(f"{key} : goto pick{len(targets)}")
            ends += [f"{key} . {n} : {ip} . {port}" for n, (ip, port) in enumerate(targets)]
        picks = "\n".join(
            f"chain pick{n} {{ dnat ip to ip daddr . ip protocol . th dport . numgen random mod {n} map @endpoints; }}"
            for n in [1, ENDPOINTS]
        )
        base = "type nat hook {} priority -100; ip daddr . ip protocol . th dport vmap @services;"
        return f"""table ip k {{
            map endpoints {{ typeof ip daddr . ip protocol . th dport . numgen random mod 3 : ip daddr . th dport;
                elements = {{ {", ".join(ends)} }} }}
            {picks}
            map services {{ type ipv4_addr . inet_proto . inet_service : verdict;
                elements = {{ {", ".join(services)} }} }}
            chain prerouting {{ {base.format("prerouting")} }}
            chain output {{ {base.format("output")} }}
        }}"""


class Iptables:
    """Chains as kube-proxy makes them."""

    def __init__(self, kind: str):
        self.name = f"iptables-{kind}"
        self.restore = f"iptables-{kind}-restore"

    def measure(self, site: Site, count: int) -> dict[str, float]:
        took = {"program": site.timed(self.restore, "--noflush", text=self.all(count))}
        middle = count // 2
        chains, rules = self.service(middle, endpoints(middle, count, 1))
        text = "\n".join(["*nat", *chains, *rules, "COMMIT", ""])
        return took | {"change": site.timed(self.restore, "--noflush", text=text)}

    def all(self, count: int) -> str:
        head = ["*nat", ":KUBE-SERVICES - [0:0]"]
        rules = ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES"]
        for number in range(count):
            chains, own = self.service(number, endpoints(number, count))
            head += chains
            rules.append(f"-A KUBE-SERVICES -d {vip(number)}/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{number}")
            rules += own
        return "\n".join([*head, *rules, "COMMIT", ""])

    def service(self, number: int, targets: list) -> tuple[list[str], list[str]]:
        chains, rules = [f":KUBE-SVC-{number} - [0:0]"], []
        for n, (ip, port) in enumerate(targets):
            left = len(targets) - n
            chance = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            chains.append(f":KUBE-SEP-{number}-{n} - [0:0]")
            rules.append(f"-A KUBE-SVC-{number} {chance}-j KUBE-SEP-{number}-{n}")
            rules.append(f"-A KUBE-SEP-{number}-{n} -p tcp -m tcp -j DNAT --to-destination {ip}:{port}")
        return chains, rules


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--services", default="target/release/examples/services")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--counts", default="10,1000,5000,10000")
    # It takes minutes beyond that.
    parser.add_argument("--most-iptables-nft", type=int, default=5000)
    options = parser.parse_args()
    table = Table()
    for count in map(int, options.counts.split(",")):
        peers = [Keel(), Nft(), Iptables("legacy")]
        if count <= options.most_iptables_nft:
            peers.append(Iptables("nft"))
        collected = {}
        for _ in range(options.runs):
            for peer in peers:
                with Site(options.services) as site:
                    took = peer.measure(site, count)
                    direct = site.rate(f"{SERVER}:{PORT}")
                    through = site.rate(f"{vip(count - 1)}:80")
                    again = site.rate(f"{SERVER}:{PORT}")
                    took |= {"connections/s": through, "share": 2 * through / (direct + again)}
                    for name, value in took.items():
                        collected.setdefault((name, peer.name), []).append(value)
        titles = {
            "program": f"{count} services: from nothing to in force, ms",
            "change": f"{count} services: one endpoint changed, ms",
            "restart": f"{count} services: a restart looks at all and changes nothing, ms",
            "connections/s": f"{count} services: new connections through the last, per second",
            "share": f"{count} services: new connections as a share of direct ones",
        }
        for (name, peer), samples in collected.items():
            table.add(titles[name], peer, samples)
    table.print()


if __name__ == "__main__":
    main()
