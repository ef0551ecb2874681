"""Three agents of one cluster that can be hurt: each in a network of its own, on a bridge; before
libc the shim (shim.c); if wanted, each with a file system of its own below its state."""

import collections
import contextlib
import http.client
import json
import os
import socket
import struct
import subprocess
from pathlib import Path

from measure import wait
from stores import Agents, Load, Program

SHIM = Path(__file__).resolve().parent / "shim.c"
PORT = 7443


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float):
        super().__init__("localhost", timeout=seconds)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


class Control:
    """What the shim does to one program; the words are those of `struct control`."""

    FORM = struct.Struct("=iiiiq")
    WORDS = ["write_error", "sync_error", "read_error", "refused", "seconds"]

    def __init__(self, path: Path):
        self.path = path
        path.write_bytes(bytes(self.FORM.size))

    def read(self) -> dict[str, int]:
        return dict(zip(self.WORDS, self.FORM.unpack(self.path.read_bytes())))

    def set(self, **words: int):
        values = self.read() | words
        with self.path.open("r+b") as file:
            file.write(self.FORM.pack(*(values[word] for word in self.WORDS)))


class Members(Agents):
    """`disk_mib`: the size of each state's own file system, if it gets one. `manifest`: what they run."""

    def __init__(self, folder: Path, load: Load, program: Path, objects: int, log: str, disk_mib: int, manifest: str):
        super().__init__(folder, load, program, 3, objects)
        self.log, self.disk_mib, self.manifest = log, disk_mib, manifest
        self.controls = {}
        # What faults saw: a line of each round, what came of it how often, and what must not be.
        self.rounds, self.notes, self.wrong = [], collections.Counter(), []

    def open(self):
        self.folder.mkdir(parents=True)
        self.shim = self.folder / "shim.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", self.shim, SHIM, "-ldl"], check=True)
        if self.manifest:
            self.commit()
        run("ip", "link", "add", "faults", "type", "bridge")
        run("ip", "link", "set", "faults", "up")
        super().open()

    def close(self):
        super().close()
        # The networks go with the last who is in them, and with their mounts.
        for number in self.controls:
            subprocess.run(["ip", "link", "del", self.link(number)], capture_output=True)
            if self.disk_mib:
                subprocess.run(["umount", "--lazy", self.place(number) / "state"], capture_output=True)
            subprocess.run(["umount", self.network(number)], capture_output=True)
        subprocess.run(["ip", "link", "del", "faults"], capture_output=True)

    # --- where they are ---

    def network(self, number: int) -> Path:
        return self.folder / f"net-{number}"

    def host(self, number: int) -> str:
        return f"10.214.0.{number + 1}"

    def link(self, number: int) -> str:
        """The end of the member's cable at the bridge."""
        return f"faults{number}"

    def address(self, number: int) -> str:
        return f"{self.host(number)}:{PORT}"

    def others(self, *numbers: int) -> list[int]:
        return [number for number in range(self.size) if number not in numbers]

    def configure(self, number: int, join: dict | None = None):
        if number not in self.controls:
            self.controls[number] = Control(self.folder / f"control-{number}")
            self.wire(number)
            if self.disk_mib:
                self.mount(number)
        super().configure(number, join)

    def wire(self, number: int):
        network, link = self.network(number), self.link(number)
        network.touch()
        run("unshare", f"--net={network}", "ip", "link", "set", "lo", "up")
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", network)
        run("ip", "link", "set", link, "master", "faults", "up")
        self.inside(number, "ip", "addr", "add", f"{self.host(number)}/24", "dev", "eth0")
        self.inside(number, "ip", "link", "set", "eth0", "up")
        rules = "add table inet faults; add set inet faults unheard { type ipv4_addr; }; "
        rules += "add chain inet faults in { type filter hook input priority -500; }; "
        rules += "add rule inet faults in ip saddr @unheard drop"
        self.inside(number, "nft", rules)

    def commit(self):
        git = ["git", "-C", self.repository, "-c", "user.name=faults", "-c", "user.email=faults@example.com"]
        run("git", "init", "-q", "-b", "main", self.repository)
        (self.repository / "manifest.yaml").write_text(self.manifest)
        run(*git, "add", "-A")
        run(*git, "commit", "-q", "-m", "Run something")

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def configuration(self, number: int, join: dict | None) -> dict:
        config = super().configuration(number, join)
        if self.manifest:
            config["sources"] = [{"name": "main", "url": f"file://{self.repository}", "branch": "main", "interval": "1h"}]
        return config

    def mount(self, number: int):
        disk, state = self.folder / f"disk-{number}", self.place(number) / "state"
        state.mkdir()
        with disk.open("wb") as file:
            file.truncate(self.disk_mib << 20)
        run("mkfs.ext4", "-q", "-F", disk)
        run("mount", "-o", "loop", disk, state)

    def inside(self, number: int, *command):
        run("nsenter", f"--net={self.network(number)}", *command)

    # --- what they do ---

    def start(self, number: int):
        command = ["nsenter", f"--net={self.network(number)}", self.program, "agent"]
        command += ["--config", self.place(number) / "config.yaml"]
        # The state's own folder is where pods' files are, too; the store's is what is to fail.
        environment = dict(os.environ, LD_PRELOAD=str(self.shim), KEEL_LOG=self.log)
        environment |= {"FAULTS_CONTROL": str(self.controls[number].path), "FAULTS_FOLDER": str(self.store(number))}
        out = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "env": environment}
        self.programs[number] = Program(command, self.place(number) / "agent.log", **out)

    def store(self, number: int) -> Path:
        return self.place(number) / "state/store"

    def said(self, number: int) -> str:
        """The agent's log."""
        return (self.place(number) / "agent.log").read_text()

    def ask(self, number: int, method: str, target: str, body: dict | None = None, seconds: float = 15):
        """The status and the answer of one member."""
        with contextlib.closing(Unix(self.socket(number), seconds)) as connection:
            text = json.dumps(body) if body else None
            connection.request(method, target, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def keel(self, number: int, *words) -> subprocess.CompletedProcess:
        command = [self.program, *words, "--config", self.place(number) / "config.yaml"]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)

    def led(self) -> int:
        """The leader, once there is one."""
        wait(lambda: self.leader() is not None, "a leader")
        return self.leader()


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{command} exited with {done.returncode}: {done.stderr}")
