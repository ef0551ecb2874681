"""Members that die, or stand still for longer than any lease."""

import contextlib
import random
import signal
import time

from fault import Fault
from measure import wait
from members import Members


@contextlib.contextmanager
def killed(members: Members, leader: int):
    """SIGKILL, and a start 0.2 to 0.8 s after the next leader."""
    members.programs[leader].kill()
    yield [leader]
    time.sleep(random.uniform(0.2, 0.8))
    members.start(leader)
    wait(lambda: members.members(leader), "the member to answer")


@contextlib.contextmanager
def stopped(members: Members, leader: int):
    """SIGSTOP."""
    members.programs[leader].process.send_signal(signal.SIGSTOP)
    try:
        yield [leader]
    finally:
        members.programs[leader].process.send_signal(signal.SIGCONT)


FAULTS = {
    "kill": Fault("the leader killed (SIGKILL)", killed, hold=0),
    "stop": Fault("the leader stopped (SIGSTOP)", stopped),
}
