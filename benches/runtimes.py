"""What makes single containers: crun, runc, podman, containerd, and the bare kernel.

Each peer has `open`, `start` (a container runs the program, which writes down when it
ran), `execute` (one more process in it, waited for), `stop`, and `close`.
"""

import concurrent.futures
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from measure import cpu_percent, processes, pss_mib, timed_ms, wait, wait_for_stamps
from peers import ONE, RUNNING, Podman, clear_groups, pack

PROGRAM = "/stamp"


class Peer:
    """Its folder, and the folder that its containers see as /out."""

    program = None

    def __init__(self, folder: Path, image: Path):
        self.folder = folder / self.name.split()[0].strip(",")
        self.image = image
        self.out = self.folder / "out"
        self.rounds = 0
        self.out.mkdir(parents=True)

    def there(self) -> bool:
        return self.program is None or shutil.which(self.program) is not None

    def open(self):
        pass

    def close(self):
        pass

    def stop(self):
        pass

    def start(self) -> float:
        """Milliseconds from the request to the program's first act. The container stays."""
        self.rounds += 1
        self.container = f"keel-bench-{os.getpid()}-{self.rounds}"
        self.file = f"round-{self.rounds}"
        self.prepare()
        start = time.time_ns()
        self.run()
        return (wait_for_stamps(self.out / self.file, 1) - start) / 1e6

    def prepare(self):
        """What is there before the request."""

    def start_one(self) -> dict[str, float]:
        """A container is the nearest to a pod that it has."""
        started = self.start()
        self.stop()
        return {ONE: started}

    def execute(self) -> float:
        """Milliseconds from the request until the end of one more process is known."""
        start = time.monotonic_ns()
        self.inside([PROGRAM, "/out/executed", "once"])
        return (time.monotonic_ns() - start) / 1e6


class Oci(Peer):
    """`crun run` or `runc run`: namespaces and cgroup, but no network to anywhere."""

    def __init__(self, folder: Path, image: Path, program: str):
        self.program = program
        self.name = f"{program}, without network"
        super().__init__(folder, image)
        self.base = [program, "--root", self.folder / "state"]
        if program == "crun":
            self.base.append("--cgroup-manager=cgroupfs")

    def open(self):
        subprocess.run([self.program, "spec"], cwd=self.folder, check=True)
        self.spec = json.loads((self.folder / "config.json").read_text())
        self.spec["process"]["terminal"] = False
        # Higher ones are refused without CAP_SYS_RESOURCE.
        self.spec["process"].pop("rlimits", None)
        self.spec["root"] = {"path": str(self.folder / "root"), "readonly": False}
        mount = {"destination": "/out", "source": str(self.out), "type": "bind", "options": ["rbind", "rw"]}
        self.spec["mounts"].append(mount)

    def prepare(self):
        """The root is an overlay that is there already: these runtimes make none."""
        for name in ["upper", "work", "root"]:
            (self.folder / name).mkdir(exist_ok=True)
        options = f"lowerdir={self.image},upperdir={self.folder}/upper,workdir={self.folder}/work"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", self.folder / "root"], check=True)
        self.spec["process"]["args"] = [PROGRAM, f"/out/{self.file}"]
        self.spec["linux"]["cgroupsPath"] = f"/{self.container}"
        (self.folder / "config.json").write_text(json.dumps(self.spec))

    def run(self):
        # Its output goes to a file: the container would hold a pipe open.
        with (self.folder / "log").open("w") as log:
            command = [*self.base, "run", "--detach", "--bundle", self.folder, self.container]
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {(self.folder / 'log').read_text()}")

    def inside(self, words: list):
        timed_ms([*self.base, "exec", self.container, *words])

    def stop(self):
        timed_ms([*self.base, "delete", "--force", self.container])
        subprocess.run(["umount", "-l", self.folder / "root"], check=True)


class PodmanRun(Peer):
    """`podman run --network=none`."""

    name = "podman, without network"
    program = "podman"

    def open(self):
        self.podman = Podman(self.folder, self.image, "none")
        self.podman.configure()

    def run(self):
        words = [f"--name={self.container}", "--network=none", "-v", f"{self.out}:/out", "localhost/stamp:latest"]
        timed_ms([*self.podman.base, "run", "--detach", *words, PROGRAM, f"/out/{self.file}"], self.podman.env)

    def inside(self, words: list):
        timed_ms([*self.podman.base, "exec", self.container, *words], self.podman.env)

    def stop(self):
        timed_ms([*self.podman.base, "rm", "--force", "--time=0", self.container], self.podman.env)

    def close(self):
        self.podman.close()


class Containerd:
    """A containerd of our own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self.space = f"bench-ctr-{os.getpid()}"
        self.process = None

    def start(self, settings: str = ""):
        """It answers. `settings` are more lines of its configuration; without, it has no CRI."""
        self.folder.mkdir(parents=True, exist_ok=True)
        without = "" if settings else 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        (self.folder / "config.toml").write_text(
            f'version = 2\nroot = "{self.folder}/root"\nstate = "{self.folder}/state"\n{without}'
            f'[grpc]\naddress = "{self.socket}"\n[ttrpc]\naddress = "{self.folder}/ttrpc.sock"\n{settings}'
        )
        log = (self.folder / "containerd.log").open("w")
        command = ["containerd", "--config", self.folder / "config.toml"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait(self.answers, "containerd to answer")

    def answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError((self.folder / "containerd.log").read_text()[-3000:])
        return self.socket.exists() and subprocess.run(self.ctr("version"), capture_output=True).returncode == 0

    def ctr(self, *words) -> list:
        return ["ctr", "--address", self.socket, "--namespace", self.space, *words]

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
        clear_groups(self.space)


class Ctr(Peer):
    """`ctr run` and `ctr task exec`, with overlayfs."""

    name = "ctr (containerd), without network"
    program = "containerd"

    def open(self):
        self.daemon = Containerd(self.folder)
        self.daemon.start()
        archive = pack(self.image, self.folder / "image")
        timed_ms(self.daemon.ctr("images", "import", "--base-name", "localhost/stamp", archive))

    def run(self):
        self.run_as(self.container)

    def run_as(self, name: str):
        mount = f"type=bind,src={self.out},dst=/out,options=rbind:rw"
        words = ["--detach", "--null-io", "--snapshotter=overlayfs", "--mount", mount, "docker.io/library/stamp:latest"]
        timed_ms(self.daemon.ctr("run", *words, name, PROGRAM, f"/out/{self.file}"))

    def inside(self, words: list):
        timed_ms(self.daemon.ctr("task", "exec", "--exec-id", f"e{time.monotonic_ns()}", self.container, *words))

    def stop(self):
        self.remove(self.container)

    def remove(self, name: str):
        timed_ms(self.daemon.ctr("task", "delete", "--force", name))
        timed_ms(self.daemon.ctr("container", "delete", name))

    def start_many(self, count: int) -> dict[str, float]:
        """Four commands at a time."""
        self.rounds += 1
        self.file = f"round-{self.rounds}"
        self.many = [f"keel-bench-{os.getpid()}-{self.rounds}-{number}" for number in range(count)]
        start = time.time_ns()
        with concurrent.futures.ThreadPoolExecutor(4) as at_once:
            list(at_once.map(self.run_as, self.many))
        return {RUNNING: (wait_for_stamps(self.out / self.file, count) - start) / 1e6}

    def weigh(self, window: float) -> dict[str, float]:
        ours = str(self.daemon.socket)
        found = processes(lambda path: path.endswith(("/containerd", "/containerd-shim-runc-v2")))
        pids = [pid for pid in found if ours in Path(f"/proc/{pid}/cmdline").read_text() or pid == self.daemon.process.pid]
        return {"memory (PSS), MiB": pss_mib(pids), "idle CPU, % of a core": cpu_percent(pids, window)}

    def stop_many(self) -> float:
        start = time.monotonic_ns()
        with concurrent.futures.ThreadPoolExecutor(4) as at_once:
            list(at_once.map(self.remove, self.many))
        return (time.monotonic_ns() - start) / 1e6

    def close(self):
        # Only after a failure is there anything left.
        for name in subprocess.run(self.daemon.ctr("task", "ls", "-q"), capture_output=True, text=True).stdout.split():
            self.remove(name)
        self.daemon.stop()


class Floor(Peer):
    """The bare kernel: see floor.c."""

    program = "gcc"

    def __init__(self, folder: Path, image: Path, how: str):
        self.how = how
        attached = {"outside": "put into its cgroup", "inside": "entering its cgroup itself"}[how]
        self.name = f"kernel-{how} alone, the process {attached}"
        super().__init__(folder, image)

    def open(self):
        source = Path(__file__).resolve().parent / "floor.c"
        subprocess.run(["gcc", "-Os", "-static", "-s", "-o", self.folder / "floor", source], check=True)

    def prepare(self):
        self.scratch = self.folder / self.file
        self.scratch.mkdir()

    def run(self):
        words = [self.how, self.container, self.image, self.scratch, self.out, PROGRAM, f"/out/{self.file}"]
        # To a file: the process keeps its parent's output.
        with (self.folder / "pid").open("w") as pid:
            subprocess.run([self.folder / "floor", *words], check=True, stdin=subprocess.DEVNULL, stdout=pid)

    def stop(self):
        clear_groups(self.container)
