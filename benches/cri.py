#!/usr/bin/env python3
"""Runs the CRI validation suite's own benchmarks against keel and against containerd, in turns.
Prints a Markdown table.

    benches/cri.py --critest PROGRAM [--keel target/release/keel] [--rounds 3] [--number 15]

Needs root, critest (kubernetes-sigs/cri-tools), docker-registry, gcc, and a static busybox; for
containerd:

    apt-get install busybox-static docker-registry containerd runc containernetworking-plugins

Both serve the CRI on a socket of their own, join pods to a bridge, and pull from the same registry
of this machine. The times are critest's, of each call.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCHES), str(BENCHES.parent / "agent/tests")]

import apart  # noqa: E402
import critest  # noqa: E402
from measure import timed_ms  # noqa: E402
from peers import CGROUPS, clear_groups  # noqa: E402
from runtimes import Containerd  # noqa: E402
from table import Table  # noqa: E402

HOST = "registry.k8s.io"
BUSYBOX = f"{HOST}/e2e-test-images/busybox:1.29-2"
PLUGINS = '[plugins."io.containerd.grpc.v1.cri"'
GROUP = "k8s.io"


# What the suite runs is called `top`. As process 1 a program hears no signal that it does not catch,
# and busybox' own catches SIGTERM only after a while: who stops it at once waits for its whole grace.
PAUSE = r"""
#include <signal.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
int main(void) { signal(SIGTERM, end); for (;;) pause(); }
"""


def push_images(registry: critest.Registry, folder: Path):
    busybox, pause = Path("/bin/busybox"), folder / "pause"
    pause.with_suffix(".c").write_text(PAUSE)
    subprocess.run(["gcc", "-Os", "-static", "-s", "-o", pause, pause.with_suffix(".c")], check=True)
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    files = {"bin/busybox": (busybox.read_bytes(), 0o755), "bin/top": (pause.read_bytes(), 0o755)}
    files["etc/passwd"] = (critest.PASSWD.encode(), 0o644)
    links = {f"bin/{applet}": "bin/busybox" for applet in applets if f"bin/{applet}" not in files}
    registry.push(["e2e-test-images/busybox:1.29-2", "library/busybox:latest"], (files, links), {"Cmd": ["sh"]})
    registry.push(["pause:3.9"], ({"pause": (pause.read_bytes(), 0o755)}, {}), {"Cmd": ["/pause"]})


class KeelCri:
    name = "keel"

    def __init__(self, program: Path, folder: Path, registry: critest.Registry):
        self.folder = folder / "keel"
        self.folder.mkdir()
        self.agent = critest.Agent(program, self.folder, registry)
        self.socket = self.agent.socket

    def close(self):
        self.agent.clear()


class ContainerdCri:
    name = "containerd"

    def __init__(self, folder: Path, registry: critest.Registry):
        self.foreign = any(CGROUPS.glob(f"*/{GROUP}"))
        self.daemon = Containerd(folder / "containerd")
        networks = folder / "networks"
        networks.mkdir()
        self.bridge = f"bcri{os.getpid() % 100000}"
        bridge = {"cniVersion": "0.4.0", "name": "bench", "type": "bridge", "bridge": self.bridge, "isGateway": True}
        addresses = {"type": "host-local", "subnet": "10.96.0.0/16", "dataDir": str(folder / "addresses")}
        (networks / "10-bench.conf").write_text(json.dumps(bridge | {"ipam": addresses}))
        # Without CAP_SYS_RESOURCE no process may be made less likely to be killed.
        self.daemon.start(
            f'{PLUGINS}]\nsandbox_image = "{HOST}/pause:3.9"\nrestrict_oom_score_adj = true\n'
            f'{PLUGINS}.cni]\nbin_dir = "/usr/lib/cni"\nconf_dir = "{networks}"\n'
            f'{PLUGINS}.registry.mirrors."{HOST}"]\nendpoint = ["http://{registry.host}"]\n'
        )
        self.socket = self.daemon.socket

    def close(self):
        self.daemon.stop()
        if not self.foreign:
            clear_groups(GROUP)


def run(program: Path, peer, folder: Path, number: int):
    """Durations in milliseconds, by operation."""
    results = folder / f"results-{peer.name}"
    results.mkdir(exist_ok=True)
    parameters = {
        "containersNumber": number,
        "containersNumberParallel": 1,
        "podsNumber": number,
        "podsNumberParallel": 1,
        "imagesNumber": number,
        "imagesNumberParallel": 1,
        "imagePullingBenchmarkImage": BUSYBOX,
        "imageListingBenchmarkImages": [BUSYBOX],
    }
    path = folder / "parameters.yaml"
    path.write_text(json.dumps(parameters))
    words = ["-benchmark", f"-runtime-endpoint=unix://{peer.socket}", f"-benchmarking-params-file={path}"]
    words += [f"-benchmarking-output-dir={results}"]
    timed_ms([program, *words], dict(os.environ, HOME=str(folder)))
    durations = {}
    for file in sorted(results.glob("*.json")):
        found = json.loads(file.read_text())
        for point in found["datapoints"]:
            for name, nanoseconds in zip(found["operationsNames"], point["operationsDurationsNs"]):
                durations.setdefault(f"{file.name.split('_benchmark')[0]}: {name}, ms", []).append(nanoseconds / 1e6)
    return durations


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=BENCHES.parent / "target/release/keel")
    parser.add_argument("--critest", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--number", type=int, default=15, help="of each operation in a round")
    args = parser.parse_args()
    apart.move_out()
    table = Table()
    samples = {}
    with apart.folder() as folder, contextlib.ExitStack() as opened:
        registry = critest.Registry(folder)
        opened.callback(registry.process.wait)
        opened.callback(registry.process.kill)
        push_images(registry, folder)
        peers = [KeelCri(args.keel.resolve(), folder, registry)]
        opened.callback(peers[0].close)
        peers.append(ContainerdCri(folder, registry))
        opened.callback(peers[1].close)
        for _ in range(args.rounds):
            for peer in peers:
                for name, values in run(args.critest.resolve(), peer, folder, args.number).items():
                    samples.setdefault((name, peer.name), []).extend(values)
    for (name, peer), values in samples.items():
        table.add(name, peer, values)
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
