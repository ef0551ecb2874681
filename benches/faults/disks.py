"""Disks that are full, or refuse: really, in a file system of the member's own, and by the shim."""

import contextlib
import errno
import os
import time

from fault import Fault, follows, leads
from measure import wait
from members import Members

# Of each member's own file system.
SIZE_MIB = 96
# Seconds for which a disk is full, at most.
PATIENCE = 10
FAILING = "the store's file cannot be written"
WORKING = "the store's file can be written again"


def fill(path: str):
    """Writes to `path` until there is no room for another byte."""
    with open(path, "wb", buffering=0) as file:
        for size in [1 << 20, 4096, 1]:
            with contextlib.suppress(OSError):
                while file.write(b"\0" * size):
                    pass
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())


def tells(members: Members, victim: int, word: str, before: int) -> bool:
    return members.said(victim).count(word) > before


def full(who):
    """The file system of the member that `who` picks has no room."""

    @contextlib.contextmanager
    def strike(members: Members, leader: int):
        victim = who(members, leader)
        filler = members.place(victim) / "state/filler"
        failing, working = (members.said(victim).count(word) for word in [FAILING, WORKING])
        fill(str(filler))
        try:
            yield [victim]
            # It may have room in its own files for a while.
            patience = time.monotonic() + PATIENCE
            wait(lambda: tells(members, victim, FAILING, failing) or time.monotonic() > patience, "the disk to refuse")
        finally:
            filler.unlink()
        refused = tells(members, victim, FAILING, failing)
        members.notes["refused" if refused else "had room left"] += 1
        if refused:
            wait(lambda: tells(members, victim, WORKING, working), f"n{victim} to say that its disk works again")

    return strike


def refusing(who, **words: int):
    """The calls of the member that `who` picks fail as `words` say."""

    @contextlib.contextmanager
    def strike(members: Members, leader: int):
        victim = who(members, leader)
        control = members.controls[victim]
        failing, working = (members.said(victim).count(word) for word in [FAILING, WORKING])
        control.set(refused=0, **words)
        try:
            yield [victim]
            wait(lambda: control.read()["refused"], "a call to be refused")
            wait(lambda: tells(members, victim, FAILING, failing), f"n{victim} to say that its disk refuses")
        finally:
            control.set(**dict.fromkeys(words, 0))
        wait(lambda: tells(members, victim, WORKING, working), f"n{victim} to say that its disk works again")

    return strike


WRITES = {"write_error": errno.EIO, "sync_error": errno.EIO}
SYNCS = {"sync_error": errno.EIO}
ROOM = {"write_error": errno.ENOSPC}

FAULTS = {
    "leader-full": Fault("the leader's disk is full", full(leads), hold=4, disk_mib=SIZE_MIB),
    "follower-full": Fault("a follower's disk is full", full(follows), hold=4, moves=False, disk_mib=SIZE_MIB),
    "leader-eio": Fault("the leader's writes and syncs say EIO", refusing(leads, **WRITES), hold=4),
    "follower-eio": Fault("a follower's writes and syncs say EIO", refusing(follows, **WRITES), hold=4, moves=False),
    "leader-sync": Fault("the leader's syncs alone say EIO", refusing(leads, **SYNCS), hold=4),
    "follower-sync": Fault("a follower's syncs alone say EIO", refusing(follows, **SYNCS), hold=4, moves=False),
    "leader-enospc": Fault("the leader's writes say ENOSPC", refusing(leads, **ROOM), hold=4),
    "leader-blink": Fault("the leader's syncs say EIO for 0.3 s", refusing(leads, **SYNCS), hold=0.3, waits=False),
}
