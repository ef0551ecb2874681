"""What a fault is: how members are hurt, for how long, and what is to come of it."""

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
    # Whether the leader may change by it.
    moves: bool = True
    # The size of a file system of each member's own.
    disk_mib: int = 0
