# Ways between nodes, as `netstack` tests them, where the kernel has WireGuard. Needs cargo: it builds
# the tests. KEEL_VM_TESTS chooses by parts of their names.
import json
import os
import shlex
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def built() -> Path:
    """The test program."""
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

with subtest("they pass, and say that the kernel has it"):
    chosen = shlex.join(os.environ.get("KEEL_VM_TESTS", "in_secret").split())
    status, output = machine.execute(
        f"cd /root && RUST_BACKTRACE=0 ./network {chosen} --nocapture 2>&1", timeout=900
    )
    print(output)
    assert status == 0
    assert "this kernel has wireguard" in output
