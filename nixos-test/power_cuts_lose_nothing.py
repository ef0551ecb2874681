# What was acknowledged is there after the power was cut, or the disk forgot all that was not synced: of a
# node alone, of three members of a cluster at once, and of one of them. What was acknowledged is written
# down outside of the machine. Its kernel's memory is lost by each cut.
import json
import subprocess
import time
from pathlib import Path

PORT = "/dev/virtio-ports/org.evenkeel.data"
WRITERS = 4
CUTS = 3
FORGETS = 5
# Seconds of writing before each cut; the machine is emulated.
WRITING = 8

UNIT = """
[Unit]
Description=Agent %i
[Service]
ExecStart=/usr/local/bin/keel agent --config /etc/keel/%i.yaml
Restart=always
RestartSec=1
Delegate=yes
KillMode=process
[Install]
WantedBy=multi-user.target
"""

# A disk in a file, which can be told to forget.
DISK = """
set -e
modprobe -a loop dm-flakey
truncate -s 128M /root/disk.img
mkfs.ext4 -q -F /root/disk.img
"""
LENGTH = 128 * 2048


def configuration(name: str, number: int, cluster: dict | None) -> str:
    config = {
        "apiVersion": "evenkeel.dev/v1alpha1",
        "kind": "AgentConfiguration",
        "nodeName": name,
        "stateDir": f"/srv/{name}",
        "runDir": f"/run/{name}",
        "logDir": f"/var/log/{name}",
        "cgroupRoot": name,
        "metricsAddress": "",
        "network": {"bridge": f"k-{name}", "podCIDR": f"10.213.{number}.0/24", "backend": "none"},
        "node": {"evictionHard": {}},
    }
    return json.dumps(config | ({"cluster": cluster} if cluster else {}))


def fill(name: str, address: str):
    """Objects for the writers: the API makes none, and what Git made it makes again."""
    order = f"write --clients 1 --count {WRITERS} --prefix filled"
    machine.succeed(f"mkdir -p /srv/{name}; echo '{order}' | load member /srv/{name}/store --name {name} --address {address}")


def begin(name: str, number: int, cluster: dict | None = None):
    machine.write_file(f"/etc/keel/{name}.yaml", configuration(name, number, cluster))
    machine.succeed(f"systemctl enable --now keel@{name}", timeout=300)
    answers([name])


def keel_of(name: str, words: str) -> str:
    return f"KEEL_SOCKET=/run/{name}/keel.sock keel {words}"


def answers(names: list[str]):
    for name in names:
        machine.wait_until_succeeds(keel_of(name, "cluster"), timeout=300)


def write(names: list[str]):
    sockets = " ".join(f"/run/{name}/keel.sock" for name in names)
    machine.succeed("systemctl stop writer || true")
    machine.succeed(f"systemd-run --collect --unit=writer writer {PORT} {WRITERS} {sockets}")
    machine.hear(WRITING)


def acknowledged() -> dict[str, int]:
    """The highest number that each writer told. A line that the cut tore was not said."""
    last = {}
    for name, number in map(str.split, machine.heard.rpartition(b"\n")[0].decode().splitlines()):
        last[name] = max(int(number), last.get(name, 0))
    return last


def there(name: str) -> dict[str, int]:
    items = json.loads(machine.succeed(keel_of(name, "get configmaps -o json 2>/dev/null")))["items"]
    return {item["metadata"]["name"]: int(item["data"].get("number", 0)) for item in items if item["metadata"]["name"].startswith("filled")}


def missing(names: list[str]) -> list[str]:
    """Who has not what was acknowledged, or more than one write more of a writer."""
    said, found = acknowledged(), {name: there(name) for name in names}
    assert len(said) == WRITERS, said
    return [
        f"{name}: {writer}: {number} was acknowledged, {objects.get(writer)} is there"
        for name, objects in found.items()
        for writer, number in said.items()
        if objects.get(writer) not in (number, number + 1) or objects != found[names[0]]
    ]


def judge(names: list[str]):
    # A member that has just started shows what it had at its last snapshot until it hears of more.
    deadline = time.monotonic() + 60
    while (words := missing(names)) and time.monotonic() < deadline:
        time.sleep(1)
    assert not words, words


def cut_power(names: list[str]):
    before = len(machine.heard)
    write(names)
    machine.crash()
    lines = machine.heard[before:].count(b"\n")
    machine.start()
    answers(names)
    judge(names)
    print(f"          {lines} writes acknowledged before the cut")


machine.start()
machine.copy_from_host(keel, "/usr/local/bin/keel")
writer = machine.folder / "writer"
subprocess.run(["gcc", "-Os", "-static", "-o", writer, Path(__file__).resolve().parent / "writer.c"], check=True)
machine.copy_from_host(load, "/usr/local/bin/load")
machine.copy_from_host(writer, "/usr/local/bin/writer")
machine.write_file("/etc/systemd/system/keel@.service", UNIT)
machine.succeed("systemctl daemon-reload")

with subtest("a node alone starts"):
    fill("alone", "127.0.0.1:23000")
    begin("alone", 9)
    machine.succeed("sync")

for cut in range(CUTS):
    with subtest(f"a node alone has all that it acknowledged after power cut {cut + 1}"):
        cut_power(["alone"])

machine.succeed("systemctl disable --now keel@alone")
machine.heard = b""

names = ["n0", "n1", "n2"]
with subtest("three agents become a cluster"):
    machine.succeed(DISK)
    fill("n0", "127.0.0.1:24000")
    begin("n0", 0, {"listenAddress": "127.0.0.1:24000"})
    token = machine.succeed(keel_of("n0", "token create")).strip()
    for number in [1, 2]:
        join = {"token": token, "servers": ["127.0.0.1:24000"]}
        begin(f"n{number}", number, {"listenAddress": f"127.0.0.1:{24000 + number}", "join": join})
    machine.wait_until_succeeds(keel_of("n0", "cluster") + " | grep -q '^3 vote'", timeout=300)
    machine.succeed("sync")

for cut in range(CUTS):
    with subtest(f"three members have all that they acknowledged after power cut {cut + 1} of all"):
        cut_power(names)


def table(disk: str, kind: str) -> str:
    """What the disk does from here on."""
    flakey = f"0 {LENGTH} flakey {disk} 0 0 1800 1"
    kinds = {"works": f"0 {LENGTH} linear {disk} 0", "forgets": f"{flakey} drop_writes", "refuses": f"{flakey} error_writes"}
    return kinds[kind]


def become(kind: str):
    """What is in the kernel's memory is not written first."""
    line = table(disk, kind)
    machine.succeed(f"dmsetup suspend --nolockfs --noflush state && dmsetup load state --table '{line}' && dmsetup resume state")


with subtest("a member's state moves to a disk that can forget"):
    machine.succeed("modprobe -a loop dm-flakey")
    disk = machine.succeed("losetup -f --show /root/disk.img").strip()
    machine.succeed(f"dmsetup create state --table '{table(disk, 'works')}'")
    machine.succeed("systemctl stop keel@n0", "mkdir /mnt/state; mount /dev/mapper/state /mnt/state")
    machine.succeed("cp -a /srv/n0/. /mnt/state; umount /mnt/state; mount /dev/mapper/state /srv/n0")
    machine.succeed("systemctl start keel@n0")
    answers(names)


def come_back():
    """n0 is killed, and starts again on a disk that works."""
    machine.succeed("systemctl kill -s KILL keel@n0; systemctl stop keel@n0 writer || true")
    machine.hear(1)
    # If the disk refused, the file system has given up by itself.
    machine.succeed("umount /srv/n0")
    become("works")
    machine.succeed("mount /dev/mapper/state /srv/n0; systemctl start keel@n0")
    answers(names)
    judge(names)


for forget in range(FORGETS):
    with subtest(f"a member has all that it acknowledged after its disk forgot what was not synced, {forget + 1}"):
        write(names)
        # It says nothing after its disk's last write: a cut takes both at once.
        machine.succeed("systemctl kill -s STOP keel@n0")
        become("forgets")
        come_back()

with subtest("a member whose disk refuses lets the others go on, and is one of them again when it has another"):
    pid = machine.succeed("systemctl show --property=MainPID --value keel@n0")
    write(names)
    become("refuses")
    machine.hear(WRITING)
    before = len(machine.heard)
    machine.hear(WRITING)
    assert len(machine.heard) > before, "nothing was written while one of three disks refused"
    assert "cannot be written" in machine.succeed("journalctl --no-pager -u keel@n0"), "n0 does not say that its disk refuses"
    assert pid == machine.succeed("systemctl show --property=MainPID --value keel@n0"), "n0 ended"
    come_back()
