"""What the comparison reads from the machine: times that pods wrote, memory, CPU."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

DEADLINE = 300.0


def stamps(file: Path) -> list[int]:
    """The times in nanoseconds at which the pods that share `file` ran, in order."""
    return sorted(int(line) for line in file.read_text().split()) if file.exists() else []


def wait_for_stamps(file: Path, count: int) -> int:
    """Waits until `count` pods ran. Returns when the last did, in nanoseconds."""
    wait(lambda: len(stamps(file)) >= count, f"{count} pods to run")
    return stamps(file)[count - 1]


def wait(condition, what: str):
    """Polls rarely enough not to disturb."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {what}")
        time.sleep(0.02)


def processes(wanted) -> list[int]:
    """The numbers of all processes of whose program's path `wanted` is true."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            path = (folder / "exe").readlink()
        except OSError:
            continue
        if wanted(str(path)):
            found.append(int(folder.name))
    return found


def programs(word: str) -> list[int]:
    """The numbers of all processes of our program whose command line has a word that ends so."""
    found = []
    for pid in processes(lambda path: path.endswith("/stamp")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if any(one.endswith(f"/{word}") for one in words):
                found.append(pid)
    return found


def pss_mib(pids: list[int]) -> float:
    """Their memory in MiB, what is shared counted in parts."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def memory_mib(pids: list[int]) -> dict[str, float]:
    """What they take in MiB, by the kernel's two ways of counting."""
    totals = {"PSS": 0, "RSS": 0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name = line.split(":")[0].upper()
            if name in totals:
                totals[name] += int(line.split()[1])
    return {name: total / 1024 for name, total in totals.items()}


def cpu_percent(pids: list[int], window: float) -> float:
    """Share of one core that they use within `window` seconds."""
    before, start = cpu_ns(pids), time.monotonic_ns()
    time.sleep(window)
    return 100 * (cpu_ns(pids) - before) / (time.monotonic_ns() - start)


def cpu_ns(pids: list[int]) -> int:
    """Counts threads that have ended too, as a sum over the living ones would not."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def timed_ms(command: list, env: dict | None = None) -> float:
    """Runs a command that must succeed. Returns its time in milliseconds."""
    start = time.monotonic_ns()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env)
    took = (time.monotonic_ns() - start) / 1e6
    if done.returncode != 0:
        raise RuntimeError(f"{command} exited with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return took


def remove_cgroup(root: Path):
    """The cgroup and all in it are gone, and what still ran in them."""
    for folder in [*sorted((path for path in root.rglob("*") if path.is_dir()), reverse=True), root]:
        wait(lambda: removed(folder), f"{folder} to be empty")


def removed(folder: Path) -> bool:
    for pid in (folder / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    try:
        folder.rmdir()
    except OSError:
        return False
    return True
