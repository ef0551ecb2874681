"""What a user would pick instead: podman, crun, kubectl."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from measure import cpu_percent, processes, programs, pss_mib, remove_cgroup, timed_ms, wait_for_stamps

ONE = "1 pod declared → its process running, ms"
RESTART = "1 pod: its process killed → running again, ms"
RUNNING = "declared → all running, ms"
CGROUPS = Path("/sys/fs/cgroup")
PARENT = CGROUPS / "memory/libpod_parent"


def make_image(folder: Path) -> Path:
    """A root with nothing but the program, and where the hosts' folder is mounted."""
    root = folder / "image"
    (root / "out").mkdir(parents=True)
    source = Path(__file__).resolve().parent / "stamp.c"
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", root / "stamp", source], check=True)
    return root


def pack(root: Path, parts: Path) -> Path:
    """The image as `docker save` writes it, by hand: podman may not be there."""
    parts.mkdir()
    subprocess.run(["tar", "--owner=0", "--group=0", "-C", root, "-cf", parts / "layer.tar", "."], check=True)
    digest = subprocess.run(["sha256sum", parts / "layer.tar"], check=True, capture_output=True, text=True)
    layers = ["sha256:" + digest.stdout.split()[0]]
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": layers}}
    (parts / "config.json").write_text(json.dumps(config))
    manifest = [{"Config": "config.json", "RepoTags": ["stamp:latest"], "Layers": ["layer.tar"]}]
    (parts / "manifest.json").write_text(json.dumps(manifest))
    archive = parts / "image.tar"
    subprocess.run(["tar", "-C", parts, "-cf", archive, "manifest.json", "config.json", "layer.tar"], check=True)
    return archive


def clear_groups(name: str):
    """Nothing is left of the cgroup in any hierarchy of version 1."""
    for root in CGROUPS.glob(f"*/{name}"):
        # There it was never a cgroup: see apart.py.
        if root.parent.name != "unified":
            remove_cgroup(root)


class Podman:
    """`podman kube play`, each pod on a bridge of podman's, or without any network."""

    def __init__(self, folder: Path, image: Path, network: str):
        self.name = f"podman kube play --network={network}"
        self.network = network
        self.image = image
        self.folder = folder / f"podman-{network}"
        self.out = self.folder / "out"
        self.rounds = 0
        self.base = ["podman", "--root", self.folder / "root", "--runroot", self.folder / "run"]
        self.env = dict(os.environ, CONTAINERS_CONF=str(self.folder / "containers.conf"))
        self.foreign = PARENT.exists()

    def open(self):
        self.configure()
        # The first pod pays for what is made once (the pause image, the bridge).
        self.start_one()

    def configure(self):
        """It has the image."""
        self.out.mkdir(parents=True)
        # Podman's own limits are higher, and refused without CAP_SYS_RESOURCE.
        (self.folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\npids_limit = 0\n'
            f'[network]\nnetwork_config_dir = "{self.folder}/networks"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "crun"\n'
        )
        archive = self.folder / "image.tar"
        subprocess.run(["tar", "-C", self.image, "-cf", archive, "."], check=True)
        timed_ms([*self.base, "import", archive, "localhost/stamp:latest"], self.env)

    def there(self) -> bool:
        return all(shutil.which(program) for program in ["podman", "crun", "catatonit"])

    def start_one(self) -> dict[str, float]:
        start, last = self.play(1)
        restarted = self.crash()
        self.stop_many()
        return {ONE: (last - start) / 1e6, RESTART: restarted}

    def crash(self) -> float:
        """Milliseconds from SIGKILL to the program until its next act."""
        file = self.out / f"round-{self.rounds}"
        [pid] = programs(str(file.name))
        killed = time.time_ns()
        os.kill(pid, signal.SIGKILL)
        return (wait_for_stamps(file, 2) - killed) / 1e6

    def start_many(self, pods: int) -> dict[str, float]:
        start, last = self.play(pods)
        return {RUNNING: (last - start) / 1e6}

    def play(self, pods: int) -> tuple[int, int]:
        self.rounds += 1
        file = f"round-{self.rounds}"
        self.manifest = self.folder / f"{file}.yaml"
        self.manifest.write_text("---\n".join(self.pod(number, file) for number in range(pods)))
        start = time.time_ns()
        timed_ms([*self.base, "kube", "play", f"--network={self.network}", self.manifest], self.env)
        return start, wait_for_stamps(self.out / file, pods)

    def pod(self, number: int, file: str) -> str:
        container = {"name": "main", "image": "localhost/stamp:latest", "imagePullPolicy": "Never"}
        container |= {"command": ["/stamp", f"/out/{file}"]}
        container |= {"volumeMounts": [{"name": "out", "mountPath": "/out"}]}
        spec = {"containers": [container], "terminationGracePeriodSeconds": 1, "restartPolicy": "Always"}
        spec |= {"volumes": [{"name": "out", "hostPath": {"path": str(self.out)}}]}
        meta = {"name": f"bench-{os.getpid()}-{self.rounds}-{number}"}
        return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}) + "\n"

    def stop_many(self) -> float:
        return timed_ms([*self.base, "kube", "down", self.manifest], self.env)

    def weigh(self, window: float) -> dict[str, float]:
        conmons = [pid for pid in processes(lambda path: path.endswith("/conmon")) if self.owns(pid)]
        return {"memory (PSS), MiB": pss_mib(conmons), "idle CPU, % of a core": cpu_percent(conmons, window)}

    def owns(self, conmon: int) -> bool:
        return str(self.folder) in Path(f"/proc/{conmon}/cmdline").read_text()

    def close(self):
        for what in [["pod", "rm", "-fa", "-t", "0"], ["system", "reset", "-f"]]:
            subprocess.run([*self.base, *what], env=self.env, capture_output=True, stdin=subprocess.DEVNULL)
        if not self.foreign:
            clear_groups(PARENT.name)


class Kubectl:
    """The nearest that kubectl does without a server: it reads, decodes and changes, but checks no field."""

    name = "kubectl"
    validate_name = "kubectl label --local (decodes, checks no field)"

    def there(self) -> bool:
        return shutil.which("kubectl") is not None

    def validate(self, folder: Path) -> float:
        with tempfile.NamedTemporaryFile(suffix=".yaml") as nothing:
            env = dict(os.environ, KUBECONFIG=nothing.name)
            command = ["kubectl", "label", "--local", "--dry-run=client", "-o", "name", "-f", folder, "bench=yes"]
            return timed_ms(command, env)
