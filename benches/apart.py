"""A place of the comparison's own: mounts, a network, a folder."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

UNIFIED = "/sys/fs/cgroup/unified"


def move_out():
    """Runs this program again in mounts and a network of its own, so that no link or
    firewall rule is left. There cgroups are not of both versions at once: where
    version 2 has a controller beside version 1, crun refuses to work."""
    # As an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if "KEEL_BENCH_INSIDE" in os.environ:
        return
    controllers = Path(UNIFIED, "cgroup.controllers")
    hybrid = controllers.exists() and controllers.read_text().strip()
    # A tmpfs instead: crun still writes there, which would otherwise go beneath the mount.
    leave = f"umount {UNIFIED} && mount -t tmpfs none {UNIFIED} && " if hybrid else ""
    prepare = f'{leave}ip link set lo up && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "--net", "sh", "-c", prepare, "-"]
    environment = dict(os.environ, KEEL_BENCH_INSIDE="yes")
    os.execvpe(command[0], [*command, sys.executable, *sys.argv], environment)


@contextlib.contextmanager
def folder():
    """A temporary folder, in which what each peer leaves goes away with it."""
    path = Path(tempfile.mkdtemp(prefix="keel-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
