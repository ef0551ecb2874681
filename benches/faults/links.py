"""Partitions: packets that one member sends and another does not hear."""

import contextlib
import itertools
import random
import threading

from fault import Fault, follows, leads
from members import Members, run

# Seconds for which a flapping link is up or down.
FLAP = (0.05, 0.4)


@contextlib.contextmanager
def deafened(members: Members, ways: list[tuple[int, int]]):
    """What the first of each pair sends, the second does not hear."""
    try:
        for sender, hearer in ways:
            members.inside(hearer, "nft", "add", "element", "inet", "faults", "unheard", f"{{ {members.host(sender)} }}")
        yield sorted({number for way in ways for number in way})
    finally:
        for hearer in {hearer for _, hearer in ways}:
            members.inside(hearer, "nft", "flush", "set", "inet", "faults", "unheard")


def mute(members: Members, number: int) -> list[tuple[int, int]]:
    return [(number, other) for other in members.others(number)]


def deaf(members: Members, number: int) -> list[tuple[int, int]]:
    return [(other, number) for other in members.others(number)]


def both(members: Members, number: int) -> list[tuple[int, int]]:
    return mute(members, number) + deaf(members, number)


def apart(members: Members, one: int, other: int) -> list[tuple[int, int]]:
    return [(one, other), (other, one)]


def hurting(ways_of, who):
    """`ways_of` is cut of the member that `who` picks."""

    @contextlib.contextmanager
    def strike(members: Members, leader: int):
        victim = who(members, leader)
        with deafened(members, ways_of(members, victim)):
            yield [victim]

    return strike


@contextlib.contextmanager
def two_apart(members: Members, leader: int):
    """The leader and one follower do not hear each other; the third hears both."""
    victim = follows(members, leader)
    with deafened(members, apart(members, leader, victim)):
        yield [victim]


@contextlib.contextmanager
def everybody_apart(members: Members, _: int):
    ways = list(itertools.permutations(range(members.size), 2))
    with deafened(members, ways) as hurt:
        yield hurt


def flapping(who):
    """The cable of the member that `who` picks comes and goes."""

    @contextlib.contextmanager
    def strike(members: Members, leader: int):
        victim, over = who(members, leader), threading.Event()

        def flap():
            for state in itertools.cycle(["down", "up"]):
                run("ip", "link", "set", members.link(victim), state)
                if over.wait(random.uniform(*FLAP)):
                    return

        thread = threading.Thread(target=flap)
        thread.start()
        try:
            yield [victim]
        finally:
            over.set()
            thread.join()
            run("ip", "link", "set", members.link(victim), "up")

    return strike


FAULTS = {
    "leader-cut": Fault("the leader cut off from both", hurting(both, leads)),
    "leader-mute": Fault("nobody hears the leader", hurting(mute, leads)),
    "leader-deaf": Fault("the leader hears nobody", hurting(deaf, leads)),
    "leader-flaps": Fault("the leader's link flaps", flapping(leads), hold=5),
    "follower-cut": Fault("a follower cut off from both", hurting(both, follows), moves=False),
    "follower-mute": Fault("nobody hears a follower", hurting(mute, follows), moves=False),
    "follower-deaf": Fault("a follower hears nobody", hurting(deaf, follows), moves=False),
    "follower-flaps": Fault("a follower's link flaps", flapping(follows), hold=5, moves=False),
    "one-link": Fault("leader and one follower apart", two_apart, moves=False),
    "all-apart": Fault("all three apart", everybody_apart),
}
