"""Files of the store that are not whole: a member is killed, its newest file cut or overwritten, and
started. It has to come up by itself, or to refuse with a word that names the file and the way back; and
that way has to work."""

import contextlib
import os
import random
from pathlib import Path

from fault import Fault
from measure import wait
from members import Members

# The way back that a refusal has to name.
WAY_BACK = "keel cluster reset --rejoin"
# Files beside the log are smaller.
NOTE = 4096
# Bytes at the end within which a record is torn.
END = 300


def log_of(store: Path) -> Path:
    """The file of the log: the one that was written to last, but for notes and snapshots."""
    files = [path for path in store.rglob("*") if path.is_file() and path.parent.name != "snapshots"]
    large = [path for path in files if path.stat().st_size >= NOTE]
    return max(large or files, key=lambda path: path.stat().st_mtime_ns)


def end_of(path: Path) -> int:
    """Where what was written ends: room that was taken before is zeros."""
    return max(1, len(path.read_bytes().rstrip(b"\0")))


def torn(path: Path):
    """What was written last is zeros from somewhere on."""
    end = end_of(path)
    begin = max(0, end - random.randint(1, END))
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(end - begin))


def cut(path: Path):
    """It ends within what was written last."""
    os.truncate(path, max(0, end_of(path) - random.randint(1, END)))


def halved(path: Path):
    """It ends in its second half."""
    length = path.stat().st_size
    os.truncate(path, random.randint(length // 2, length - 1))


def garbage(path: Path):
    """Bytes in the middle are others."""
    with path.open("r+b") as file:
        file.seek(random.randint(0, end_of(path) - 1))
        file.write(random.randbytes(64))


def emptied(path: Path):
    os.truncate(path, 0)


def removed(path: Path):
    path.unlink()


def ended(members: Members, victim: int) -> bool:
    return members.programs[victim].process.poll() is not None


def comes_up(members: Members, victim: int) -> bool:
    """Started: true if it answers, false if it has ended."""
    members.start(victim)
    wait(lambda: ended(members, victim) or members.members(victim), "the member to answer, or to refuse")
    return not ended(members, victim)


def damaging(damage):
    """A member is killed, and its log damaged before it starts again."""

    @contextlib.contextmanager
    def strike(members: Members, _: int):
        victim = random.randrange(members.size)
        members.programs[victim].kill()
        yield [victim]
        path, before = log_of(members.store(victim)), len(members.said(victim))
        damage(path)
        if comes_up(members, victim):
            members.notes["came up"] += 1
            return
        words = members.said(victim)[before:].strip().rpartition("\n")[2]
        members.rounds.append(f"{path.name} {damage.__name__}: {words}")
        if path.name not in words or WAY_BACK not in words:
            members.wrong.append(f"{damage.__name__}: unclear: {words}")
        rejoin(members, victim)
        members.notes["refused, and rejoined"] += 1

    return strike


def rejoin(members: Members, victim: int):
    reset = members.keel(victim, "cluster", "reset", "--rejoin")
    if reset.returncode != 0:
        raise RuntimeError(f"`{WAY_BACK}` exited with {reset.returncode}: {reset.stdout}{reset.stderr}")
    if not comes_up(members, victim):
        raise RuntimeError(f"after `{WAY_BACK}` it ended: {members.said(victim)[-2000:]}")
    wait(members.is_whole, "all members to vote again")


FAULTS = {
    "torn": Fault("the log's last record torn", damaging(torn), hold=0),
    "cut": Fault("the log cut within its last record", damaging(cut), hold=0),
    "halved": Fault("the log cut in its second half", damaging(halved), hold=0),
    "garbage": Fault("64 bytes of the log are others", damaging(garbage), hold=0),
    "emptied": Fault("the log is empty", damaging(emptied), hold=0),
    "removed": Fault("the log is missing", damaging(removed), hold=0),
}
