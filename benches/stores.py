"""The stores that are compared: etcd, keel's store alone, and keel's agent with its API."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from measure import wait
from peers import clear_groups


class Load:
    """The program that writes: `load`, built beside keel."""

    def __init__(self, program: Path):
        self.program = program
        self.prefixes = 0

    def prefix(self) -> str:
        """A beginning of names that no object has yet."""
        self.prefixes += 1
        return f"o{self.prefixes}"

    def run(self, *words) -> dict:
        done = subprocess.run([self.program, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"load {words} exited with {done.returncode}: {done.stderr[-2000:]}")
        return json.loads(done.stdout)


class Program:
    """A process that is ended at the end."""

    def __init__(self, command: list, log: Path, **more):
        with log.open("a") as out:
            self.process = subprocess.Popen(list(map(str, command)), stderr=out, text=True, **more)
        self.log = log

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended:\n{self.log.read_text()[-3000:]}")

    def kill(self):
        """As a crash."""
        self.process.kill()
        self.process.wait()

    def end(self):
        if self.process.poll() is None:
            if self.process.stdin:
                self.process.stdin.close()
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=20)
        if self.process.poll() is None:
            self.kill()


class Etcd:
    """etcd of `size` members with its own defaults; asked over gRPC and TCP on the loopback."""

    name = "etcd (gRPC)"

    def __init__(self, folder: Path, load: Load, size: int, port: int):
        self.folder, self.load, self.size, self.port = folder / f"etcd-{port}", load, size, port
        self.programs = {}

    def open(self):
        self.folder.mkdir(parents=True)
        for number in range(self.size):
            self.start(number)
        for number in range(self.size):
            wait(lambda number=number: self.status(number), "etcd to answer")
        self.write(1, 100)

    def url(self, number: int, kind: int = 0) -> str:
        return f"http://127.0.0.1:{self.port + 10 * kind + number}"

    def start(self, number: int):
        all_peers = ",".join(f"n{one}={self.url(one, 1)}" for one in range(self.size))
        client, peer = self.url(number), self.url(number, 1)
        command = ["etcd", "--name", f"n{number}", "--data-dir", self.folder / f"n{number}"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", all_peers]
        program = Program(command, self.folder / f"n{number}.log", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.programs[number] = program

    def status(self, number: int) -> dict | None:
        """What a member says of itself; nothing if there is no leader."""
        self.programs[number].alive()
        command = ["etcdctl", "--endpoints", self.url(number), "endpoint", "status", "-w", "json"]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, ETCDCTL_API="3"))
        if done.returncode != 0:
            return None
        [answer] = json.loads(done.stdout)
        return answer["Status"] if answer["Status"].get("leader") else None

    def leader(self) -> int | None:
        for number in self.programs:
            status = self.status(number)
            if status and status["leader"] == status["header"]["member_id"]:
                return number
        return None

    def write(self, clients: int, count: int, size: int = 1024) -> dict:
        words = ["write", "--clients", clients, "--count", count, "--bytes", size, "--prefix", self.load.prefix()]
        # One connection, as Kubernetes' API server has; more of them make etcd slower.
        return self.load.run("etcd", "--connections", 1, self.url(self.leader() or 0), *words)

    def fill(self, count: int) -> str:
        """Returns what the objects' names begin with."""
        self.write(100, count)
        return f"o{self.load.prefixes}"

    def crash(self, seconds: float) -> float:
        """The longest time without an answer, in milliseconds, when the leader is killed."""
        wait(lambda: self.leader() is not None, "a leader")
        leader = self.leader()
        asked = self.url((leader + 1) % self.size)
        words = ["etcd", "--connections", 1, asked, "pace", "--seconds", seconds, "--prefix", self.load.prefix()]
        gap = paced([self.load.program, *words], seconds, self.programs[leader])
        self.start(leader)
        wait(lambda: self.status(leader), "the killed member to answer")
        return gap

    def find(self, name: str):
        self.load.run("etcd", "--connections", 1, self.url(0), "find", name)

    def pids(self) -> list[int]:
        return [program.pid for program in self.programs.values()]

    def close(self):
        for program in self.programs.values():
            program.end()


def paced(command: list, seconds: float, victim: Program) -> float:
    """Runs a paced load, and kills `victim` in the middle of it."""
    load = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    time.sleep(seconds / 3)
    victim.kill()
    return gap_of(load.communicate()[0])


def gap_of(line: str) -> float:
    answer = json.loads(line)
    if answer["failed"] > answer["answered"]:
        raise RuntimeError(f"most writes failed: {answer}")
    return answer["gap"]


class Bare:
    """keel's store in `size` processes, written to from within the leader's, as the controllers and
    the Git sources do. Members talk over Unix sockets."""

    name = "keel"

    def __init__(self, folder: Path, load: Load, size: int):
        self.folder, self.load, self.size = folder / f"bare-{size}-{id(self)}", load, size
        self.programs, self.joined = {}, {}

    def open(self):
        self.folder.mkdir(parents=True)
        self.start(0)
        for number in range(1, self.size):
            answer = self.ask(0, "admit", f"n{number}", self.socket(number))
            self.joined[number] = ["--cluster", answer["cluster"], "--node", answer["node"]]
            self.start(number)
        wait(lambda: self.size == 1 or self.state(0)["voters"] == self.size, "all members to vote")
        self.write(1, 100)

    def socket(self, number: int) -> Path:
        return self.folder / f"n{number}.sock"

    def start(self, number: int):
        self.socket(number).unlink(missing_ok=True)
        command = [self.load.program, "member", self.folder / f"n{number}", "--name", f"n{number}"]
        command += [] if self.size == 1 else ["--socket", self.socket(number), *self.joined.get(number, [])]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        program = Program(command, self.folder / f"n{number}.log", **pipes)
        self.programs[number] = program
        program.first = self.answer(number)

    def tell(self, number: int, *words):
        self.programs[number].process.stdin.write(" ".join(map(str, words)) + "\n")
        self.programs[number].process.stdin.flush()

    def answer(self, number: int) -> dict:
        line = self.programs[number].process.stdout.readline()
        if not line:
            self.programs[number].process.wait()
            self.programs[number].alive()
        return json.loads(line)

    def ask(self, number: int, *words) -> dict:
        self.tell(number, *words)
        return self.answer(number)

    def state(self, number: int) -> dict:
        return self.ask(number, "state")

    def leader(self) -> int | None:
        for number in self.programs:
            state = self.state(number)
            if state["leader"] == state["node"]:
                return number
        return None

    def write(self, clients: int, count: int, size: int = 1024) -> dict:
        wait(lambda: self.leader() is not None, "a leader")
        words = ["write", "--clients", clients, "--count", count, "--bytes", size, "--prefix", self.load.prefix()]
        return self.ask(self.leader(), *words)

    def fill(self, count: int) -> str:
        """Returns what the objects' names begin with."""
        self.write(100, count)
        return f"o{self.load.prefixes}"

    def crash(self, seconds: float) -> float:
        """As etcd's: it is asked at a member that lives on."""
        wait(lambda: self.leader() is not None, "a leader")
        leader = self.leader()
        asked = (leader + 1) % self.size
        self.tell(asked, "pace", "--seconds", seconds, "--prefix", self.load.prefix())
        time.sleep(seconds / 3)
        self.programs[leader].kill()
        gap = gap_of(self.programs[asked].process.stdout.readline())
        self.start(leader)
        wait(lambda: self.state(leader)["leader"] is not None, "the killed member to follow")
        return gap

    def find(self, name: str):
        self.ask(0, "find", name)

    def pids(self) -> list[int]:
        return [program.pid for program in self.programs.values()]

    def close(self):
        for program in self.programs.values():
            program.end()


class Agents:
    """Agents of one cluster, asked through Kubernetes' API at the socket of the one that leads. They talk
    by mutual TLS over TCP. ConfigMaps are replaced, not created: they are in the first one's store before
    it starts."""

    name = "keel"

    def __init__(self, folder: Path, load: Load, program: Path, size: int, objects: int):
        self.folder, self.load, self.program = folder / f"agents-{size}-{id(self)}", load, program
        self.size, self.objects = size, objects
        self.programs = {}

    def open(self):
        for number in range(self.size):
            self.place(number).mkdir(parents=True)
        self.configure(0)
        self.prepare()
        self.start(0)
        wait(lambda: self.members(0), "the agent to answer")
        if self.size == 1:
            return
        command = [self.program, "token", "create", "--config", self.place(0) / "config.yaml"]
        token = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        for number in range(1, self.size):
            self.configure(number, {"token": token, "servers": [self.address(0)]})
            self.start(number)
        wait(self.is_whole, "all members to vote")

    def is_whole(self) -> bool:
        seen = [self.members(number) for number in self.programs]
        return all(sum(member["voter"] for member in members) == self.size for members in seen)

    def place(self, number: int) -> Path:
        return self.folder / f"n{number}"

    def address(self, number: int) -> str:
        return f"127.0.0.1:{24000 + number}"

    def group(self, number: int) -> str:
        return f"keel-bench-{os.getpid()}-{self.size}-{number}"

    def configure(self, number: int, join: dict | None = None):
        (self.place(number) / "config.yaml").write_text(json.dumps(self.configuration(number, join)))

    def configuration(self, number: int, join: dict | None) -> dict:
        place = self.place(number)
        config = {
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "AgentConfiguration",
            "nodeName": f"n{number}",
            "stateDir": str(place / "state"),
            "runDir": str(place / "run"),
            "logDir": str(place / "log"),
            "cgroupRoot": self.group(number),
            "metricsAddress": "",
            "network": {"bridge": f"kb{os.getpid()}-{number}", "podCIDR": f"10.213.{number}.0/24",
                        "backend": "none"},
            # However full the machine's disk is.
            "node": {"evictionHard": {}},
        }
        if self.size > 1:
            config["cluster"] = {"listenAddress": self.address(number), **({"join": join} if join else {})}
        return config

    def prepare(self):
        order = f"write --clients 100 --count {self.objects} --prefix filled\n"
        command = [self.load.program, "member", self.place(0) / "state/store", "--name", "n0"]
        command += ["--address", self.address(0)]
        subprocess.run(command, input=order, check=True, capture_output=True, text=True)

    def start(self, number: int):
        command = [self.program, "agent", "--config", self.place(number) / "config.yaml"]
        out = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        self.programs[number] = Program(command, self.place(number) / "agent.log", **out)

    def socket(self, number: int) -> Path:
        return self.place(number) / "run/keel.sock"

    def members(self, number: int) -> list[dict]:
        """The members as one of them sees them; none while it does not answer."""
        self.programs[number].alive()
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as stream:
            stream.connect(str(self.socket(number)))
            stream.sendall(b"GET /evenkeel/v1alpha1/cluster HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with stream.makefile("rb") as answer:
                return json.loads(answer.read().split(b"\r\n\r\n", 1)[1])["members"]
        return []

    def leader(self) -> int | None:
        if self.size == 1:
            return 0
        for number in self.programs:
            if any(member["self"] and member["leader"] for member in self.members(number)):
                return number
        return None

    def write(self, clients: int, count: int, size: int = 1024) -> dict:
        wait(lambda: self.leader() is not None, "a leader")
        words = ["write", "--clients", clients, "--count", count, "--bytes", size, "--prefix", "filled"]
        return self.load.run("api", self.socket(self.leader()), *words)

    def fill(self, count: int) -> str:
        """It has been already: the beginning of the objects' names."""
        assert count == self.objects
        return "filled"

    def crash(self, seconds: float) -> float:
        """As etcd's: it is asked at a member that lives on."""
        wait(lambda: self.leader() is not None, "a leader")
        leader = self.leader()
        words = ["api", self.socket((leader + 1) % self.size), "pace", "--seconds", seconds, "--prefix", "filled"]
        gap = paced([self.load.program, *words], seconds, self.programs[leader])
        self.start(leader)
        wait(lambda: self.members(leader), "the killed member to answer")
        return gap

    def find(self, name: str):
        self.load.run("api", self.socket(0), "find", name)

    def pids(self) -> list[int]:
        return [program.pid for program in self.programs.values()]

    def close(self):
        for program in self.programs.values():
            program.end()
        for number in range(self.size):
            clear_groups(self.group(number))
