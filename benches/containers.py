#!/usr/bin/env python3
"""Compares how keel, crun, runc, podman and containerd start a container, and a process more
in it. Prints a Markdown table.

    benches/containers.py [--keel target/release/keel] [--runs 20]

Needs root, gcc, git, ip and mount; of the peers what is there:

    apt-get install crun runc podman catatonit netavark containerd

All run the same program (stamp.c) from the same root on overlayfs, and the program writes down
when it ran. A start is timed from the request: for keel to the pod's supervisor, as a client of
its CRI makes it; for the others from the command. The kernel alone (floor.c) does no more than
clone, mount, attach and exec. A process more is timed until its end is known.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import apart  # noqa: E402
from keel_runtime import KeelContainers  # noqa: E402
from peers import make_image  # noqa: E402
from runtimes import Ctr, Floor, Oci, PodmanRun  # noqa: E402
from table import Table, rounds  # noqa: E402

START = "container: asked for → its program runs, ms"
EXEC = "exec: asked for → ended, ms"
BY_COMMAND = "exec by command: begun → ended, ms"


# Right after one process was put into a cgroup the kernel lets others in at once, which it does
# not on a machine at rest.
REST = 0.1


def measure(peer) -> dict[str, float]:
    measured = {START: at_rest(peer.start)}
    if not isinstance(peer, Floor):
        measured[EXEC] = at_rest(peer.execute)
    if isinstance(peer, KeelContainers):
        measured[BY_COMMAND] = at_rest(peer.execute_by_agent)
    elif peer.program == "crun":
        measured[BY_COMMAND] = measured[EXEC]
    peer.stop()
    return measured


def at_rest(act) -> float:
    time.sleep(REST)
    return act()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=Path(__file__).resolve().parent.parent / "target/release/keel")
    parser.add_argument("--runs", type=int, default=20)
    args = parser.parse_args()
    apart.move_out()
    table = Table()
    with apart.folder() as folder, contextlib.ExitStack() as opened:
        image = make_image(folder)
        peers = [KeelContainers(folder, image, args.keel.resolve())]
        peers += [Floor(folder, image, "outside"), Floor(folder, image, "inside")]
        peers += [Oci(folder, image, "crun"), Oci(folder, image, "runc"), PodmanRun(folder, image), Ctr(folder, image)]
        peers = [peer for peer in peers if peer.there()]
        for peer in peers:
            opened.callback(peer.close)
            peer.open()
        # What is made once is not counted.
        for peer in peers:
            measure(peer)
        rounds(table, peers, args.runs, measure)
    table.print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
