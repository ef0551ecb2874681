# Ways between nodes, as `netstack` tests them, where the kernel has WireGuard, and the fast path on an older one with
# modules. Needs cargo: it builds the tests, if KEEL_VM_NETWORK does not name a program of them. KEEL_VM_TESTS chooses by parts of their
# names.
import json
import os
import shlex
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def built() -> Path:
    """The test program."""
    if named := os.environ.get("KEEL_VM_NETWORK"):
        return Path(named)
    command = ["cargo", "test", "-p", "netstack", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE).stdout.splitlines()
    made = [message for message in map(json.loads, lines) if message.get("executable")]
    return next(Path(one["executable"]) for one in made if one["target"]["name"] == "network")


machine.start()

with subtest("the tests are there with what they need"):
    small = machine.folder / "network"
    subprocess.run(["strip", "-o", small, built()], check=True)
    machine.copy_from_host(small, "/root/network")
    machine.succeed("modprobe wireguard && modprobe vxlan && command -v ip bridge")
    # What lets netfilter see bridges is a module here; pods' own addresses in services show that it came.
    machine.fail("test -e /proc/sys/net/bridge")

ALL = ["in_secret", "go_past_netfilter"]
chosen = os.environ.get("KEEL_VM_TESTS", " ".join(ALL)).split()
with subtest("they pass, and say that the kernel has it"):
    status, output = machine.execute(
        f"cd /root && RUST_BACKTRACE=0 ./network {shlex.join(chosen)} --nocapture 2>&1", timeout=1200
    )
    print(output)
    assert status == 0
    assert "this kernel has wireguard" in output

if chosen == ALL:
    with subtest("connections took the fast path, on one node and between two"):
        print(machine.succeed("uname -r"))
        counts = [line for line in output.splitlines() if " of 300: [[" in line]
        for backend in ["HostGateway", "Vxlan"]:
            assert any(line.startswith(backend) for line in counts)

    with subtest("everybody reached everybody, and nothing was lost while nodes came and went"):
        for ground in ["one link", "a router between nodes"]:
            assert f"wireguard, {ground}, nodes know one another by IPv4" in output
            assert f"wireguard, {ground}, nodes know one another by IPv6" in output
        assert "sent, none missing" in output
        machine.succeed("test -e /proc/sys/net/bridge")
