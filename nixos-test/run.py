#!/usr/bin/env python3
"""Runs tests in virtual machines: run.py [--keel PROGRAM] TEST…

A test is a Python file that finds `machine`, `subtest`, `keel` (the path of the program
under test) and `load` (of the one that prepares stores) as globals, as under the NixOS test driver.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from machine import Failure, Machine  # noqa: E402


@contextlib.contextmanager
def subtest(name: str):
    """A part of a test, told with the time that it took."""
    begin = time.monotonic()
    try:
        yield
    except BaseException:
        print(f"  FAILED  {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        raise
    print(f"  ok      {name} ({time.monotonic() - begin:.1f} s)", flush=True)


def stripped(keel: Path, folder: Path) -> Path:
    """A copy without the symbols, which are most of a debug build."""
    if not keel.exists():
        return keel
    subprocess.run(["strip", "-o", folder / "keel", keel], check=True)
    return folder / "keel"


def run(test: Path, image: Path, keel: Path, load: Path) -> bool:
    print(f"{test.stem.replace('_', ' ')}", flush=True)
    machine = Machine(image)
    names = {"machine": machine, "subtest": subtest, "keel": stripped(keel, machine.folder), "Failure": Failure}
    names |= {"load": load, "__file__": str(test)}
    try:
        exec(compile(test.read_text(), test, "exec"), names)
        return True
    except Exception:
        traceback.print_exc()
        with contextlib.suppress(Exception):
            print(machine.execute("journalctl --no-pager -n 80 -u 'keel*'; systemctl --failed --no-pager")[1])
        with contextlib.suppress(Exception):
            print(f"--- end of the console ---\n{machine.console()[-2000:]}")
        return False
    finally:
        machine.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keel", type=Path, default=HERE.parent / "target/release/keel", help="the program under test")
    parser.add_argument("--load", type=Path, default=HERE.parent / "target/release/load", help="what prepares stores")
    parser.add_argument("--image", type=Path, default=HERE.parent / "target/vm", help="where the image is kept")
    parser.add_argument("tests", nargs="+", type=Path)
    args = parser.parse_args()
    # As an exception, so that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    subprocess.run([HERE / "build-image.sh", args.image], check=True)
    tests = [test for test in args.tests if test.resolve().name not in ("run.py", "machine.py")]
    # No short cut: every test runs, also after a failure.
    results = [run(test, args.image, args.keel, args.load) for test in tests]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
