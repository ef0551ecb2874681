#!/usr/bin/env python3
"""Compares how network policies are programmed, and what they cost a connection, with rule lists as
kube-router makes them (iptables with ipset) and as Calico's nftables chains are. Prints a Markdown table.

    benches/policies.py [--policies target/release/examples/policies] [--services target/release/examples/services]
                        [--runs 5] [--counts 10,100,1000] [--pods 10000] [--here 110]

Needs root, ip, nft, iptables and ipset (Debian: iproute2, nftables, iptables, ipset; without ipset that peer
is left out), and `cargo build --release -p netstack --example policies --example services`. Everything is
in network namespaces of its own, which are removed at the end.

A client and a server are joined to a bridge by a veth pair each, as pods are. There are as many namespaces
as policies; each policy lets pods of its own namespace and of the next ask its pods at port 8080. Of all
pods, some are on this node; the client and the server are of the last namespace.

- `program`: the time in which all policies come into force, where there was none. Of keel from the call,
  selecting included, to the kernel's answer; of the others from the start of the command to its end, all
  selecting done before.
- `peer`: a pod on another node comes, which is a peer of two policies. `pod`: one comes on this node.
- `connections`: new connections in a second, one after the other, from the client to the server, as a share
  of those without any policy in the same round.

A run of each follows a run of each other, so that a noisy machine disturbs all alike: ratios count.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from services import PORT, SERVER, Site, address, values  # noqa: E402
from table import Table  # noqa: E402

CLIENT = "10.88.0.2"
FIRST = (10, 200, 0, 0)


class World:
    """Who is in which namespace."""

    def __init__(self, count: int, pods: int, here: int):
        self.count, self.pods, self.here = count, pods, here
        self.members = [[] for _ in range(count)]
        for number in range(pods):
            self.members[number % count].append(address(FIRST, number))
        self.members[-1] += [CLIENT, SERVER]
        # Pods of this node by address, with their namespaces: only their policies are programmed.
        self.local = {address(FIRST, number): number % count for number in range(here)}
        self.local |= {CLIENT: count - 1, SERVER: count - 1}
        self.used = sorted(set(self.local.values()))
        self.sets = sorted({n for used in self.used for n in (used, (used + 1) % count)})

    def late(self) -> str:
        """An address that nobody has yet."""
        return address(FIRST, self.pods + 1)


class Keel:
    name = "keel"

    def measure(self, site: Site, world: World, program: str) -> dict[str, float]:
        numbers = [str(n) for n in [world.count, world.pods, world.here]]
        said = values(site.inside(site.node, program, "program", "br0", *numbers, CLIENT, SERVER))
        return {
            "program": said["program"],
            "peer": said["far"],
            "pod": said["near"],
            "policy": said["policy"],
            "restart": said["restart"],
        }


class Nft:
    """A chain for each pod that jumps to a chain for each policy, with a set for each namespace."""

    name = "nftables chains"

    def measure(self, site: Site, world: World, _program: str) -> dict[str, float]:
        took = {"program": site.timed("nft", "-f", "-", text=self.all(world))}
        late = world.late()
        peer = f"add element inet c s0 {{ {late} }}\n"
        pod = f"add chain inet c pod-late {{ jump policy-{world.used[0]}; drop; }}\n"
        pod += f"add element inet c pods {{ 10.250.0.1 : jump pod-late }}\n"
        return took | {
            "peer": site.timed("nft", "-f", "-", text=peer),
            "pod": site.timed("nft", "-f", "-", text=pod),
        }

    def all(self, world: World) -> str:
        lines = ["table inet c {"]
        for n in world.sets:
            elements = ", ".join(world.members[n])
            lines.append(f"set s{n} {{ type ipv4_addr; elements = {{ {elements} }} }}")
        for n in world.used:
            own, following = f"@s{n}", f"@s{(n + 1) % world.count}"
            lines.append(
                f"chain policy-{n} {{ ip saddr {own} tcp dport {PORT} accept; "
                f"ip saddr {following} tcp dport {PORT} accept; }}"
            )
        for number, (_, n) in enumerate(world.local.items()):
            lines.append(f"chain pod-{number} {{ jump policy-{n}; drop; }}")
        pods = ", ".join(f"{ip} : jump pod-{number}" for number, ip in enumerate(world.local))
        lines += [
            f"map pods {{ type ipv4_addr : verdict; elements = {{ {pods} }} }}",
            "chain forward { type filter hook forward priority 0; ct state established,related accept;"
            " ip daddr vmap @pods; }",
            "}",
        ]
        return "\n".join(lines)


class Iptables:
    """A chain for each pod and policy, found one after the other, with an ipset for each namespace."""

    name = "iptables, ipset"

    def measure(self, site: Site, world: World, _program: str) -> dict[str, float]:
        restore = "iptables-legacy-restore"
        sets = site.timed("ipset", "restore", text=self.sets(world))
        took = {"program": sets + site.timed(restore, "--noflush", text=self.all(world))}
        peer = f"add s0 {world.late()}\n"
        pod = "\n".join(
            [
                "*filter",
                ":POD-LATE - [0:0]",
                f"-A POD-LATE -j POLICY-{world.used[0]}",
                "-A POD-LATE -m mark ! --mark 0x10000/0x10000 -j DROP",
                "-A FORWARD -d 10.250.0.1/32 -j POD-LATE",
                "COMMIT",
                "",
            ]
        )
        return took | {
            "peer": site.timed("ipset", "restore", text=peer),
            "pod": site.timed(restore, "--noflush", text=pod),
        }

    def sets(self, world: World) -> str:
        lines = []
        for n in world.sets:
            lines.append(f"create s{n} hash:ip")
            lines += [f"add s{n} {ip}" for ip in world.members[n]]
        return "\n".join([*lines, ""])

    def all(self, world: World) -> str:
        chains = [f":POLICY-{n} - [0:0]" for n in world.used]
        chains += [f":POD-{n} - [0:0]" for n in range(len(world.local))]
        rules = ["-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"]
        for n in world.used:
            for peers in [n, (n + 1) % world.count]:
                match = f"-m set --match-set s{peers} src -p tcp -m tcp --dport {PORT}"
                rules.append(f"-A POLICY-{n} {match} -j MARK --set-xmark 0x10000/0x10000")
        for number, (ip, n) in enumerate(world.local.items()):
            rules.append(f"-A FORWARD -d {ip}/32 -j POD-{number}")
            rules.append(f"-A POD-{number} -j POLICY-{n}")
            rules.append(f"-A POD-{number} -m mark ! --mark 0x10000/0x10000 -j DROP")
        return "\n".join(["*filter", *chains, *rules, "COMMIT", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--policies", default="target/release/examples/policies")
    parser.add_argument("--services", default="target/release/examples/services")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--counts", default="10,100,1000")
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--here", type=int, default=110)
    options = parser.parse_args()
    table = Table()
    for count in map(int, options.counts.split(",")):
        world = World(count, options.pods, options.here)
        peers = [Keel(), Nft()]
        if shutil.which("ipset"):
            peers.append(Iptables())
        collected = {}
        for _ in range(options.runs):
            for peer in peers:
                with Site(options.services) as site:
                    # Of that bridge alone: all peers see what it passes on.
                    bridge = ["ip", "link", "set", "br0", "type", "bridge", "nf_call_iptables", "1"]
                    site.inside(site.node, *bridge)
                    before = site.rate(f"{SERVER}:{PORT}")
                    took = peer.measure(site, world, options.policies)
                    took["share"] = site.rate(f"{SERVER}:{PORT}") / before
                    for name, value in took.items():
                        collected.setdefault((name, peer.name), []).append(value)
        what = f"{count} policies, {options.pods} pods, {options.here} of them here"
        titles = {
            "program": f"{what}: from nothing to in force, ms",
            "peer": f"{what}: a peer comes on another node, ms",
            "pod": f"{what}: a pod comes on this node, ms",
            "policy": f"{what}: a policy changes, ms",
            "restart": f"{what}: a restart looks at all and changes nothing, ms",
            "share": f"{what}: new connections as a share of those without policies",
        }
        for (name, peer), samples in collected.items():
            table.add(titles[name], peer, samples)
    table.print()


if __name__ == "__main__":
    main()
