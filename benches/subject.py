"""keel itself: an agent of its own, fed from a bare repository."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from measure import cpu_percent, processes, programs, pss_mib, timed_ms, wait, wait_for_stamps
from peers import CGROUPS, ONE, RESTART, RUNNING, clear_groups, pack

BOUND = "1 pod bound → its process running, ms"
READY = "declared → all Ready, ms"
PUSHED = "1 pod: `git push` begun → its process running, ms"
BRANCH = "refs/heads/main"


class Keel:
    """An agent with folders, bridge and cgroup of its own."""

    name = "keel"
    def __init__(self, folder: Path, image: Path, program: Path):
        self.folder = folder / "keel"
        self.root = image
        self.out = self.folder / "out"
        self.program = program
        self.rounds = 0
        self.agent = None
        self.bare = self.folder / "manifests.git"
        self.work = self.folder / "work"

    def open(self):
        self.out.mkdir(parents=True)
        self.image = f"docker-archive:{pack(self.root, self.folder / 'image')}"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], check=True)
        subprocess.run(["git", "clone", "-q", self.bare, self.work], check=True, capture_output=True)
        for key, value in {"user.name": "bench", "user.email": "bench@example.com", "gc.auto": "0"}.items():
            self.git("config", key, value)
        # Something always stays, so that no revision is empty.
        (self.work / "settings.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n")
        self.commit()
        self.git("push", "-q", "origin", "HEAD:main")
        self.start()

    def there(self) -> bool:
        return True

    def start(self, **more):
        number = os.getpid()
        config = {
            "apiVersion": "evenkeel.dev/v1alpha1",
            "kind": "AgentConfiguration",
            "stateDir": str(self.folder / "state"),
            "runDir": str(self.folder / "run"),
            "logDir": str(self.folder / "log"),
            "cgroupRoot": f"keel-bench-{number}",
            "metricsAddress": "",
            "network": {"bridge": f"kb{number}", "podCIDR": "10.213.0.0/16", "cni": {"mode": "never"}},
            # However full the machine's disk is.
            "node": {"evictionHard": {}},
            # Long: what is measured is that the agent sees the change by itself.
            "sources": [{"name": "main", "url": f"file://{self.bare}", "branch": "main", "interval": "1h", "allowEmpty": True}],
        }
        config |= more
        self.config = self.folder / "config.yaml"
        self.config.write_text(json.dumps(config))
        log = (self.folder / "agent.log").open("w")
        self.agent = subprocess.Popen(
            [self.program, "agent", "--config", self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        wait(self.serves, "the agent to answer")
        self.watch = Watch(self.folder / "run/keel.sock")
        # The first pod pays for the unpacking of the image, as with the peers.
        self.start_one()

    def serves(self) -> bool:
        if self.agent.poll() is not None:
            raise RuntimeError(f"the agent ended:\n{(self.folder / 'agent.log').read_text()[-3000:]}")
        command = [self.program, "get", "configmaps", "--config", self.config, "-o", "name"]
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode == 0 and "settings" in done.stdout

    def git(self, *args) -> str:
        command = ["git", "-C", self.work, *args]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "--allow-empty", "-qm", f"Round {self.rounds}")
        return self.git("rev-parse", "HEAD")

    def land(self, commit: str) -> int:
        """Lands a commit whose objects are there already, as the last step of a push
        does. Returns when, in nanoseconds."""
        ref = self.bare / BRANCH
        lock = ref.with_suffix(".lock")
        lock.write_text(commit + "\n")
        now = time.time_ns()
        lock.rename(ref)
        return now

    def offer(self, commit: str):
        """The objects of the commit are in the repository, under a name that no agent follows."""
        self.git("push", "-q", "-f", "origin", f"{commit}:refs/offers/next")
        # What the agent does about the news must not overlap with what is measured.
        time.sleep(0.3)

    def start_one(self) -> dict[str, float]:
        self.offer(self.declare("one.yaml", self.pod))
        start = self.land(self.git("rev-parse", "HEAD"))
        ran = wait_for_stamps(self.out / f"round-{self.rounds}", 1)
        bound = self.watch.when(f"bench-{self.rounds}", "bound")
        restarted = self.crash()
        self.stop_many()
        self.declare("one.yaml", self.pod)
        pushed = time.time_ns()
        self.git("push", "-q", "origin", "HEAD:main")
        ran_again = wait_for_stamps(self.out / f"round-{self.rounds}", 1)
        self.stop_many()
        return {
            ONE: (ran - start) / 1e6,
            BOUND: (ran - bound) / 1e6,
            PUSHED: (ran_again - pushed) / 1e6,
            RESTART: restarted,
        }

    def crash(self) -> float:
        """Milliseconds from SIGKILL to the program until its next act."""
        file = self.out / f"round-{self.rounds}"
        # It is known to run.
        wait(lambda: self.watch.count("ready") == 1, "the pod to be Ready")
        [pid] = programs(file.name)
        killed = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        return (wait_for_stamps(file, 2) - killed) / 1e6

    def start_many(self, pods: int) -> dict[str, float]:
        self.offer(self.declare("many.yaml", lambda: self.deployment(pods)))
        start = self.land(self.git("rev-parse", "HEAD"))
        last = wait_for_stamps(self.out / f"round-{self.rounds}", pods)
        wait(lambda: self.watch.count("ready") == pods, "the pods to be Ready")
        return {RUNNING: (last - start) / 1e6, READY: (self.watch.last("ready") - start) / 1e6}

    def declare(self, name: str, text) -> str:
        self.rounds += 1
        (self.work / name).write_text(text())
        return self.commit()

    def template(self) -> dict:
        container = {"name": "main", "image": self.image, "command": ["/stamp", f"/out/round-{self.rounds}"]}
        container |= {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
        volume = {"name": "out", "hostPath": {"path": str(self.out)}}
        return {"containers": [container], "terminationGracePeriodSeconds": 1, "volumes": [volume]}

    def pod(self) -> str:
        meta = {"name": f"bench-{self.rounds}"}
        return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": self.template()})

    def deployment(self, pods: int) -> str:
        labels = {"app": "bench"}
        spec = {"replicas": pods, "selector": {"matchLabels": labels}}
        spec["template"] = {"metadata": {"labels": labels}, "spec": self.template()}
        meta = {"name": f"bench-{self.rounds}"}
        return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})

    def stop_many(self) -> float:
        """Milliseconds from the commit without pods until no object, group or folder of one is left."""
        for name in ["one.yaml", "many.yaml"]:
            (self.work / name).unlink(missing_ok=True)
        self.rounds += 1
        self.offer(self.commit())
        start = self.land(self.git("rev-parse", "HEAD"))
        wait(lambda: 0 < self.watch.count("bound") == self.watch.count("gone"), "the pods to be gone")
        groups = list(CGROUPS.glob(f"*/keel-bench-{os.getpid()}/**/pod*"))
        folders = list((self.folder / "state/pods").iterdir())
        if groups or folders or self.supervisors():
            raise RuntimeError(f"left: {groups} {folders} {self.supervisors()}")
        gone = self.watch.last("gone")
        self.watch.forget()
        return (gone - start) / 1e6

    def supervisors(self) -> list[int]:
        """The agent's other processes run the same program."""
        ours = str(self.program)
        found = processes(lambda path: path.removesuffix(" (deleted)") == ours or "memfd:keel" in path)
        return [pid for pid in found if pid != self.agent.pid and str(self.folder) in environment_of(pid)]

    def weigh(self, window: float) -> dict[str, float]:
        supervisors = self.supervisors()
        agent, rest = pss_mib([self.agent.pid]), pss_mib(supervisors)
        print(f"  agent {agent:.1f} MiB, {len(supervisors)} supervisors {rest:.1f} MiB", flush=True)
        idle = cpu_percent([self.agent.pid, *supervisors], window)
        return {"memory (PSS), MiB": agent + rest, "idle CPU, % of a core": idle}

    def validate(self, folder: Path) -> float:
        return timed_ms([self.program, "validate", folder])

    def close(self):
        if self.agent is None:
            return
        try:
            if self.agent.poll() is None:
                if self.watch.count("bound"):
                    self.stop_many()
                self.agent.send_signal(signal.SIGTERM)
                self.agent.wait(timeout=30)
        finally:
            # Only after a failure is there anything to kill.
            for pid in [*([self.agent.pid] if self.agent.poll() is None else []), *self.supervisors()]:
                os.kill(pid, signal.SIGKILL)
            clear_groups(f"keel-bench-{os.getpid()}")


def environment_of(pid: int) -> str:
    """How a process was called, by which several agents' processes are told apart."""
    folder = Path(f"/proc/{pid}")
    try:
        return (folder / "cmdline").read_text() + (folder / "environ").read_text() + str((folder / "cwd").readlink())
    except OSError:
        return ""


class Watch:
    """When the pods of an agent were first seen bound, Ready and gone, in nanoseconds."""

    def __init__(self, path: Path):
        self.times = {}
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        # Without chunks, for what is answered until the connection ends.
        self.socket.sendall(b"GET /api/v1/pods?watch=1 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        with self.socket.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                if line.startswith(b"{"):
                    self.hear(time.time_ns(), json.loads(line))

    def hear(self, now: int, event: dict):
        pod = event["object"]
        times = self.times.setdefault(pod["metadata"]["name"], {})
        if pod["spec"].get("nodeName"):
            times.setdefault("bound", now)
        conditions = pod.get("status", {}).get("conditions", [])
        if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
            times.setdefault("ready", now)
        if event["type"] == "DELETED":
            times["gone"] = now

    def when(self, pod: str, what: str) -> int:
        wait(lambda: what in self.times.get(pod, {}), f"{pod} to be {what}")
        return self.times[pod][what]

    def all(self, what: str) -> list[int]:
        return [times[what] for times in list(self.times.values()) if what in times]

    def count(self, what: str) -> int:
        return len(self.all(what))

    def last(self, what: str) -> int:
        return max(self.all(what), default=time.time_ns())

    def forget(self):
        self.times = {}
