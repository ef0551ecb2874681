"""What a fault is: how members are hurt, for how long, and what is to come of it."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from members import Members


@dataclass
class Fault:
    """`strike` hurts who is to be hurt where `leader` leads, gives the hurt members, and heals them after."""

    title: str
    strike: Callable[[Members, int], AbstractContextManager[list[int]]]
    # Seconds from the strike to the healing.
    hold: float = 3
    # Whether it holds for longer if nobody takes a write until then.
    waits: bool = True
    # Whether the leader may change by it.
    moves: bool = True
    # The size of a file system of each member's own.
    disk_mib: int = 0
    # What all members run, from Git.
    manifest: str = ""


def leads(_: Members, leader: int) -> int:
    return leader


def follows(members: Members, leader: int) -> int:
    return random.choice(members.others(leader))
