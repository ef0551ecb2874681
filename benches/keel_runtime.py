"""keel's runtime without its agent: a pod of containers that come by request, as for a client of
the CRI, and processes in them. The words are those of runtime/src/supervisor/protocol.rs."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from measure import wait
from peers import clear_groups
from runtimes import PROGRAM, Peer
from subject import Keel


class Line:
    """A connection to a pod's supervisor."""

    def __init__(self, path: Path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("rb")
        self.hear("hello")

    def hear(self, kind: str) -> dict:
        reply = json.loads(self.lines.readline())
        if reply["kind"] != kind:
            raise RuntimeError(f"the supervisor says {reply}")
        return reply

    def ask(self, op: str, **words):
        self.socket.sendall(request(op, **words))
        self.hear("done")

    def close(self):
        self.lines.close()
        self.socket.close()


def request(op: str, **words) -> bytes:
    return json.dumps({"op": op, **words}).encode() + b"\n"


class KeelContainers(Peer):
    """A container in a pod that is there. Its plan is that of an agent's own pod."""

    name = "keel"

    def __init__(self, folder: Path, image: Path, program: Path):
        self.agent = Keel(folder / "agent", image, program)
        self.keel = program
        super().__init__(folder / "containers", image)

    def open(self):
        # A container runs in the agent's pod for `keel exec`.
        self.agent.open()
        self.agent.declare("one.yaml", self.agent.pod)
        self.agent.git("push", "-q", "origin", "HEAD:main")
        self.pod = f"bench-{self.agent.rounds}"
        wait(lambda: self.agent.watch.count("ready") == 1, "the pod to be Ready")
        [plan] = (self.agent.folder / "state/pods").glob("*/plan.json")
        self.plan = json.loads(plan.read_text())
        [self.template] = self.plan["containers"]
        [mount] = [one for one in self.template["spec"]["mounts"] if one["destination"] == "/out"]
        mount["source"] = str(self.out)
        group = f"keel-bench-{os.getpid()}-containers"
        self.group = group
        self.state = self.folder / "pod"
        (self.state / "containers").mkdir(parents=True)
        self.plan |= {"uid": "bench", "by_request": True, "containers": [], "cgroup": f"{group}/podbench"}
        self.plan |= {"state_dir": str(self.state), "log_dir": str(self.folder / "log")}
        (self.state / "plan.json").write_text(json.dumps(self.plan))
        socket_path = self.folder / "pod.sock"
        command = [self.keel, "supervise", self.state / "plan.json", socket_path]
        self.supervisor = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env={})
        said = self.supervisor.stdout.readline().strip()
        if said != "ready":
            raise RuntimeError(f"the supervisor says {said}")
        self.path = socket_path
        self.line = Line(socket_path)
        self.line.ask("start", addresses=[])

    def prepare(self):
        plan = json.loads(json.dumps(self.template)) | {"name": self.container}
        plan["spec"]["process"]["args"] = [PROGRAM, f"/out/{self.file}"]
        (self.state / "containers" / f"{self.container}.json").write_text(json.dumps(plan))

    def run(self):
        self.line.ask("add_container", container=self.container)
        self.line.ask("start_container", container=self.container)

    def inside(self, words: list):
        line = Line(self.path)
        with open(os.devnull, "r+b") as null:
            text = request("exec", container=self.container, args=words, env=[], tty=False)
            socket.send_fds(line.socket, [text], [null.fileno()] * 3)
        reply = line.hear("exited")
        line.close()
        if reply["exit_code"] != 0:
            raise RuntimeError(f"{words}: {reply}")

    def execute_by_agent(self) -> float:
        """The whole of `keel exec`, which asks the agent where the pod is."""
        start = time.monotonic_ns()
        words = ["exec", self.pod, "--config", self.agent.config, "--", PROGRAM, "/out/executed", "once"]
        done = subprocess.run([self.keel, *words], capture_output=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode())
        return (time.monotonic_ns() - start) / 1e6

    def stop(self):
        self.line.ask("stop_container", container=self.container, grace_seconds=0)
        wait(self.is_removed, "the container to end")

    def is_removed(self) -> bool:
        self.line.socket.sendall(request("remove_container", container=self.container))
        return json.loads(self.line.lines.readline())["kind"] == "done"

    def close(self):
        if hasattr(self, "supervisor"):
            self.supervisor.send_signal(signal.SIGTERM)
            self.supervisor.wait()
            clear_groups(self.group)
        self.agent.close()
