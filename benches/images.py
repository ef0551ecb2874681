#!/usr/bin/env python3
"""Compares how keel, containerd and podman pull and unpack an image of 200 MB from a registry
of this machine. Prints a Markdown table.

    benches/images.py [--keel target/release/keel] [--runs 5] [--megabytes 200]

Needs root, git and docker-registry; of the peers what is there:

    apt-get install docker-registry containerd runc podman catatonit netavark crun

The image is made of this machine's own files below /usr, compressed with gzip -6, once as four
layers and once as one. It is removed after each pull, and all that was written is on the disk
before the next. A pull is timed until the command has ended, with the layers unpacked, and until
what it wrote is on the disk: keel waits for that before it says that it has the image.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCHES), str(BENCHES.parent / "agent/tests")]

import apart  # noqa: E402
from critest import Registry  # noqa: E402
from measure import timed_ms  # noqa: E402
from peers import Podman, make_image  # noqa: E402
from runtimes import Containerd  # noqa: E402
from subject import Keel  # noqa: E402
from table import Table, rounds  # noqa: E402

SOURCES = ["/usr/bin", "/usr/lib", "/usr/share"]
OCI = "application/vnd.oci.image."


class Content:
    """Archives of files of this machine, each so many bytes."""

    def __init__(self, megabytes: int):
        self.files = self.walk()
        self.bytes = megabytes * 1_000_000
        self.count = 0

    def walk(self):
        for source in SOURCES:
            for folder, folders, names in os.walk(source):
                folders.sort()
                for name in sorted(names):
                    path = Path(folder, name)
                    if path.is_file() and not path.is_symlink() and path.stat().st_size < 20_000_000:
                        yield path

    def layer(self, parts: int) -> bytes:
        """The next of so many parts of all."""
        out, size = io.BytesIO(), 0
        with tarfile.open(fileobj=out, mode="w") as tar:
            for path in self.files:
                tar.add(path, str(path)[1:], recursive=False)
                size += path.stat().st_size
                self.count += 1
                if size >= self.bytes // parts:
                    break
        return out.getvalue()


def push(registry: Registry, repository: str, layers: list[bytes]):
    digests = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    rootfs = {"type": "layers", "diff_ids": digests}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    blobs = [registry.blob(repository, gzip.compress(layer, 6, mtime=0)) for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI + "manifest.v1+json",
        "config": {"mediaType": OCI + "config.v1+json", **registry.blob(repository, config)},
        "layers": [{"mediaType": OCI + "layer.v1.tar+gzip", **blob} for blob in blobs],
    }
    registry.ask("PUT", f"/v2/{repository}/manifests/latest", json.dumps(manifest).encode(), manifest["mediaType"])
    return sum(blob["size"] for blob in blobs)


class KeelPull(Keel):
    """`keel image pull`."""

    def __init__(self, folder: Path, image: Path, program: Path, host: str):
        super().__init__(folder, image, program)
        self.host = host

    def start(self):
        super().start(images={"registries": [{"host": self.host, "plainHTTP": True}]})

    def pull(self, reference: str) -> float:
        return timed_ms([self.program, "image", "--config", self.config, "pull", reference])

    def remove(self, reference: str):
        timed_ms([self.program, "image", "--config", self.config, "rm", reference])


class CtrPull:
    """`ctr images pull`, which unpacks for overlayfs."""

    name = "ctr images pull (containerd)"

    def __init__(self, folder: Path):
        self.daemon = Containerd(folder / "containerd")

    def open(self):
        self.daemon.start()

    def pull(self, reference: str) -> float:
        return timed_ms(self.daemon.ctr("images", "pull", "--plain-http", "--snapshotter=overlayfs", reference))

    def remove(self, reference: str):
        timed_ms(self.daemon.ctr("images", "rm", "--sync", reference))

    def close(self):
        self.daemon.stop()


class PodmanPull:
    """`podman pull`."""

    name = "podman pull"

    def __init__(self, folder: Path, image: Path):
        self.podman = Podman(folder / "pull", image, "none")

    def open(self):
        self.podman.configure()

    def pull(self, reference: str) -> float:
        return timed_ms([*self.podman.base, "pull", "--tls-verify=false", reference], self.podman.env)

    def remove(self, reference: str):
        timed_ms([*self.podman.base, "rmi", "--force", reference], self.podman.env)

    def close(self):
        self.podman.close()


def measure(peer, reference: str, what: str) -> dict[str, float]:
    os.sync()
    start = time.monotonic_ns()
    pulled = peer.pull(reference)
    os.sync()
    safe = (time.monotonic_ns() - start) / 1e6
    peer.remove(reference)
    return {f"{what}: pulled and unpacked, ms": pulled, f"{what}: … and on the disk, ms": safe}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=BENCHES.parent / "target/release/keel")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=200)
    args = parser.parse_args()
    apart.move_out()
    table = Table()
    with apart.folder() as folder, contextlib.ExitStack() as opened:
        registry = Registry(folder)
        opened.callback(registry.process.wait)
        opened.callback(registry.process.kill)
        image = make_image(folder)
        peers = [KeelPull(folder, image, args.keel.resolve(), registry.host)]
        peers += [CtrPull(folder), PodmanPull(folder, image)]
        for peer in peers:
            opened.callback(peer.close)
            peer.open()
        for count in [4, 1]:
            content = Content(args.megabytes)
            layers = [content.layer(count) for _ in range(count)]
            size = push(registry, f"bench{count}", layers)
            what = f"{args.megabytes} MB in {count} layer{'s' * (count > 1)}"
            print(f"  {what}: {content.count} files, {size / 1e6:.0f} MB compressed", file=sys.stderr)
            del layers
            reference = f"{registry.host}/bench{count}:latest"
            rounds(table, peers, args.runs, lambda peer: measure(peer, reference, what))
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
