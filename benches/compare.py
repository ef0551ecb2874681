#!/usr/bin/env python3
"""Compares keel with podman, containerd, crun and kubectl in one run: one pod, 100 pods, at rest,
their deletion, manifests. Prints a Markdown table.

    benches/compare.py [--keel target/release/keel] [--runs 15] [--pods 100] [--peers-only]

Needs root, gcc, git and ip; of the peers podman (with catatonit and netavark), containerd,
runc, crun and kubectl, what is there. Everything is made in a folder and a network of its own,
under names that hold this process' number, and removed at the end.

Each peer runs the same program (stamp.c) from the same image, and the program itself
writes down when it ran. A run of each peer follows a run of each other, so that a
noisy machine disturbs all alike: ratios count, absolute figures do not.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import apart  # noqa: E402
from peers import Kubectl, Podman, make_image  # noqa: E402
from runtimes import Ctr, Oci  # noqa: E402
from subject import Keel  # noqa: E402
from table import Table, rounds  # noqa: E402


# Seconds after which pods are at rest.
REST = 5


def many_pods(table: Table, peers: list, pods: int, window: float):
    for peer in peers:
        for measure, value in peer.start_many(pods).items():
            table.add(f"{pods} pods {measure}", peer.name, [value])
        time.sleep(REST)
        for measure, value in peer.weigh(window).items():
            table.add(f"{pods} pods at rest: {measure}", peer.name, [value])
        table.add(f"{pods} pods: their deletion declared → all gone, ms", peer.name, [peer.stop_many()])


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=Path(__file__).resolve().parent.parent / "target/release/keel")
    parser.add_argument("--runs", type=int, default=15, help="of each short measure")
    parser.add_argument("--pods", type=int, default=100)
    parser.add_argument("--window", type=float, default=20, help="seconds of rest for the idle CPU")
    parser.add_argument("--peers-only", action="store_true")
    args = parser.parse_args()
    apart.move_out()
    table = Table()
    with apart.folder() as folder:
        image = make_image(folder)
        keel = [] if args.peers_only else [Keel(folder, image, args.keel.resolve())]
        podmen = [Podman(folder, image, network) for network in ["bridge", "none"]]
        peers = [*keel, *podmen, Ctr(folder, image), Oci(folder, image, "crun")]
        running = [peer for peer in peers if peer.there()]
        with contextlib.ExitStack() as opened:
            for peer in running:
                opened.callback(peer.close)
                peer.open()
            rounds(table, running, args.runs, lambda peer: peer.start_one())
            many_pods(table, [peer for peer in running if hasattr(peer, "start_many")], args.pods, args.window)
        validate(table, [peer for peer in [*keel, Kubectl()] if peer.there()], folder, args.runs)
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
