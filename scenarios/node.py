"""A machine for a scenario: a repository, an agent that follows it, all below one folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 180


def in_own_network() -> None:
    """Goes on in a network namespace of this script's own."""
    if os.environ.get("SCENARIO_NETWORK") != "own":
        os.environ["SCENARIO_NETWORK"] = "own"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.check_call(["busybox", "ip", "link", "set", "lo", "up"])


def until(what: str, look):
    """The first true answer of `look`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = look()
        if answer:
            return answer
        time.sleep(0.02)
    raise RuntimeError(f"waited in vain for {what}")


class Node:
    def __init__(self, keel: str, folder: Path, **configuration) -> None:
        self.keel_program, self.folder = keel, folder
        self.name = folder.name
        self.cgroup_root = configuration.get("cgroupRoot", self.name)
        self.agent = None
        self.repository = folder / "repository"
        self.repository.mkdir(parents=True)
        self.git("init", "-q", "-b", "main", ".")
        self.configuration = folder / "keel.yaml"
        self.configuration.write_text(
            json.dumps(
                {
                    "apiVersion": "evenkeel.dev/v1alpha1",
                    "kind": "AgentConfiguration",
                    "stateDir": f"{folder}/state",
                    "runDir": f"{folder}/run",
                    "logDir": f"{folder}/log",
                    "cgroupRoot": self.name,
                    # However little the machine has left.
                    "node": {"evictionHard": {}},
                    "sources": [{"name": "site", "url": f"file://{self.repository}", "branch": "main"}],
                    **configuration,
                }
            )
        )

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        return subprocess.check_output(["git", *who, *words], cwd=self.repository, text=True).strip()

    def push(self, subject: str, **files) -> None:
        """Commits the objects, a list of them by each file's name; `None` removes the file."""
        for name, objects in files.items():
            path = self.repository / f"{name}.yaml"
            if objects is None:
                path.unlink()
            else:
                path.write_text("---\n".join(json.dumps(one) + "\n" for one in objects))
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        commit = self.git("rev-parse", "HEAD")
        if self.agent:
            self.keel("sync")
            until("the commit", lambda: commit[:7] in self.keel("get", "revisions"))

    def start(self) -> None:
        log = (self.folder / "agent.log").open("a")
        words = [self.keel_program, "agent", "--config", str(self.configuration)]
        self.agent = subprocess.Popen(words, stdout=log, stderr=log)
        until("the agent", lambda: self.said("get", "pods").returncode == 0)

    def kill_agent(self) -> None:
        self.agent.kill()
        self.agent.wait()
        self.agent = None

    def said(self, *words: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "KEEL_SOCKET": f"{self.folder}/run/keel.sock"}
        return subprocess.run([self.keel_program, *words], env=environment, text=True, capture_output=True)

    def keel(self, *words: str) -> str:
        said = self.said(*words)
        if said.returncode != 0:
            raise RuntimeError(f"keel {' '.join(words)}: {said.stderr}")
        return said.stdout

    def get(self, *words: str) -> dict:
        return json.loads(self.keel("get", *words, "-o", "json"))

    def pod(self, app: str) -> dict | None:
        """The newest living pod with this label."""
        pods = [
            pod
            for pod in self.get("pods", "-l", f"app={app}").get("items", [])
            if "deletionTimestamp" not in pod["metadata"]
        ]
        return max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None)

    def ready(self, app: str) -> dict:
        def look():
            pod = self.pod(app)
            states = (pod or {}).get("status", {}).get("containerStatuses", [])
            return pod if states and all(state["ready"] for state in states) else None

        try:
            return until(f"{app} to be ready", look)
        except RuntimeError:
            print(self.keel("events"), self.keel("get", "pods", "-o", "wide"))
            for pod in self.get("pods", "-l", f"app={app}")["items"]:
                print(self.keel("status", f"pod/{pod['metadata']['name']}"))
            raise

    def pid(self, pod: dict) -> int:
        status = self.keel("status", f"pod/{pod['metadata']['name']}")
        return int(re.search(r"running, PID (\d+)", status).group(1))

    def clear(self) -> None:
        """Everything is gone but the folder's logs."""
        if self.agent is None:
            self.start()
        for file in self.repository.glob("*.yaml"):
            file.unlink()
        (self.repository / "none.yaml").write_text(
            json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "none"}})
        )
        self.push("Remove all")
        until("the pods' end", lambda: not self.get("pods", "-A").get("items"))
        self.agent.terminate()
        self.agent.wait()
        roots = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
        for group in (root / self.cgroup_root for root in roots):
            for below in sorted(group.glob("**/"), reverse=True):
                below.rmdir()
        shutil.rmtree(self.folder)
