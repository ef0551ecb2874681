#!/usr/bin/env python3
"""Compares keel with podman, crun and kubectl in one run, and prints a Markdown table.

    benches/compare.py [--keel target/release/keel] [--runs 15] [--pods 100] [--peers-only]

Needs root, gcc, git and ip; of the peers podman (with catatonit and netavark), crun
and kubectl, what is there. Everything is made in a folder and a network of its own,
under names that hold this process' number, and removed at the end.

Each peer runs the same program (stamp.c) from the same image, and the program itself
writes down when it ran. A run of each peer follows a run of each other, so that a
noisy machine disturbs all alike: ratios count, absolute figures do not.
"""

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import Crun, Kubectl, Podman, make_image  # noqa: E402
from subject import Keel  # noqa: E402


class Table:
    """Measures by name and peer, in the order of their coming."""

    def __init__(self):
        self.rows = {}

    def add(self, measure: str, peer: str, samples: list[float]):
        self.rows.setdefault(measure, {})[peer] = samples
        print(f"  {measure}: {peer} {show(samples)}", file=sys.stderr, flush=True)

    def print(self):
        print("| measure | keel | peer | | keel / peer |\n|---|---|---|---|---|")
        for measure, samples in self.rows.items():
            keel = samples.get("keel")
            others = {peer: values for peer, values in samples.items() if peer != "keel"} or {"–": None}
            for peer, values in others.items():
                ratio = f"{middle(keel) / middle(values):.2f}" if keel and values and middle(values) else "–"
                print(f"| {measure} | {show(keel)} | {peer} | {show(values)} | {ratio} |")


def middle(samples: list[float]) -> float:
    return statistics.median(samples)


def show(samples: list[float] | None) -> str:
    if not samples:
        return "–"
    form = "{:.0f}" if middle(samples) >= 100 else "{:.2f}"
    spread = f" ({form.format(min(samples))}–{form.format(max(samples))})" if len(samples) > 1 else ""
    return form.format(middle(samples)) + spread


def one_pod(table: Table, peers: list, runs: int):
    samples = {(peer, measure): [] for peer in peers for measure in peer.one_measures}
    for _ in range(runs):
        for peer in peers:
            for measure, value in peer.start_one().items():
                samples[peer, measure].append(value)
    for (peer, measure), values in samples.items():
        table.add(measure, peer.name, values)


def many_pods(table: Table, peers: list, pods: int, window: float):
    for peer in peers:
        table.add(f"{pods} pods declared → all running, ms", peer.name, [peer.start_many(pods)])
        for measure, value in peer.weigh(window).items():
            table.add(f"{pods} pods at rest: {measure}", peer.name, [value])
        peer.stop_many()


def validate(table: Table, peers: list, folder: Path, runs: int):
    files = folder / "validate"
    files.mkdir()
    for number in range(1000):
        (files / f"{number:04}.yaml").write_text(MANIFESTS[number % len(MANIFESTS)].replace("NAME", f"object-{number}"))
    samples = {peer: [] for peer in peers}
    for _ in range(runs):
        for peer in peers:
            samples[peer].append(peer.validate(files))
    for peer, values in samples.items():
        table.add("1000 manifests read, ms", peer.name if peer.name == "keel" else peer.validate_name, values)


MANIFESTS = [
    """apiVersion: apps/v1
kind: Deployment
metadata:
  name: NAME
  labels: {app: NAME}
spec:
  replicas: 3
  selector:
    matchLabels: {app: NAME}
  template:
    metadata:
      labels: {app: NAME}
    spec:
      containers:
      - name: main
        image: "host:"
        command: [sleep, infinity]
        env:
        - {name: LEVEL, value: info}
        ports:
        - {name: http, containerPort: 8080}
        resources:
          requests: {cpu: 50m, memory: 32Mi}
          limits: {cpu: 200m, memory: 64Mi}
        volumeMounts:
        - {name: scratch, mountPath: /scratch}
      volumes:
      - name: scratch
        emptyDir: {}
""",
    """apiVersion: v1
kind: ConfigMap
metadata:
  name: NAME
data:
  level: info
  app.conf: |
    listen 8080
    workers 4
""",
    """apiVersion: v1
kind: Service
metadata:
  name: NAME
spec:
  selector: {app: NAME}
  ports:
  - {name: http, port: 80, targetPort: 8080}
""",
]


UNIFIED = "/sys/fs/cgroup/unified"


def move_out():
    """Runs this program again in mounts and a network of its own, so that no link or
    firewall rule is left. There cgroups are not of both versions at once: where
    version 2 has a controller beside version 1, crun refuses to work."""
    controllers = Path(UNIFIED, "cgroup.controllers")
    hybrid = controllers.exists() and controllers.read_text().strip()
    # A tmpfs instead: crun still writes there, which would otherwise go beneath the mount.
    leave = f"umount {UNIFIED} && mount -t tmpfs none {UNIFIED} && " if hybrid else ""
    prepare = f'{leave}ip link set lo up && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "--net", "sh", "-c", prepare, "-"]
    environment = dict(os.environ, KEEL_BENCH_INSIDE="yes")
    os.execvpe(command[0], [*command, sys.executable, *sys.argv], environment)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=Path(__file__).resolve().parent.parent / "target/release/keel")
    parser.add_argument("--runs", type=int, default=15, help="of each short measure")
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--window", type=float, default=20, help="seconds of rest for the idle CPU")
    parser.add_argument("--peers-only", action="store_true")
    args = parser.parse_args()
    # As an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if "KEEL_BENCH_INSIDE" not in os.environ:
        move_out()
    folder = Path(tempfile.mkdtemp(prefix="keel-bench-"))
    table = Table()
    try:
        image = make_image(folder)
        keel = [] if args.peers_only else [Keel(folder, image, args.keel.resolve())]
        podmen = [Podman(folder, image, network) for network in ["bridge", "none"]]
        running = [peer for peer in [*keel, *podmen, Crun(folder, image)] if peer.there()]
        with contextlib.ExitStack() as opened:
            for peer in running:
                opened.callback(peer.close)
                peer.open()
            one_pod(table, running, args.runs)
            many_pods(table, [peer for peer in running if hasattr(peer, "start_many")], args.pods, args.window)
        validate(table, [peer for peer in [*keel, Kubectl()] if peer.there()], folder, args.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
