#!/usr/bin/env python3
"""Hurts the members of a cluster of three agents again and again while clients write, and looks for what
is lost. Prints a Markdown table.

    benches/faults/run.py [--keel target/release/keel] [--load target/release/load] [--rounds 10] [FAULT…]

Needs root, gcc, ip, nft, and keel and the program that prepares the store: `cargo build --release -p
agent -p load`. Everything is made in a folder below TMPDIR and in networks and mounts of its own, and
removed at the end.

Each fault has a cluster of its own. In each round somebody is hurt, and healed. Clients write through all
members meanwhile (clients.py says how they know what must not be lost, or done twice). Then every member
has to take a write, and at the end all hold the same. Else it is told, and the exit code is 1.

`nobody led` is from the strike to the first acknowledged write that was begun after it; `back` from the
healing to the same through the member that was hurt. `stood still` is the longest time between two
acknowledged writes of any client in a whole round.
"""

import argparse
import contextlib
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import apart  # noqa: E402
import clients  # noqa: E402
import clocks  # noqa: E402
import crashes  # noqa: E402
import disks  # noqa: E402
import files  # noqa: E402
import links  # noqa: E402
from fault import Fault  # noqa: E402
from measure import wait  # noqa: E402
from members import Members  # noqa: E402
from stores import Load  # noqa: E402

FAULTS = crashes.FAULTS | links.FAULTS | disks.FAULTS | clocks.FAULTS | files.FAULTS


@dataclass
class Outcome:
    """What came of all rounds of one fault."""

    title: str
    rounds: int = 0
    acknowledged: int = 0
    moved: int = 0
    gaps: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    backs: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    # What else must not be.
    wrong: list[str] = field(default_factory=list)
    notes: str = ""

    def line(self) -> str:
        cells = [self.title, self.rounds, self.acknowledged, told(self.lost), told(self.broken), self.moved]
        return f"| {' | '.join(map(str, [*cells, *map(middle, [self.gaps, self.pauses, self.backs]), self.notes]))} |"


HEAD = ["fault", "rounds", "acknowledged", "lost", "done twice", "leader moved"]
HEAD += ["nobody led, median (worst), ms", "stood still, ms", "back, ms", "then"]


def told(words: list[str]) -> str:
    return "; ".join(words) or "none"


def middle(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({max(values):.0f})" if values else "–"


def strike(members: Members, fault: Fault, trial: clients.Trial, outcome: Outcome):
    """One round."""
    leader = members.led()
    trial.longest()
    with fault.strike(members, leader) as hurt:
        at, begun, awaited = datetime.now(UTC), time.monotonic(), trial.await_write()
        # Only what cuts every majority leaves nobody to write.
        everybody = len(hurt) == members.size
        if fault.waits and not everybody:
            outcome.gaps.append(awaited.wait())
        time.sleep(max(0.0, begun + fault.hold - time.monotonic()))
    if not fault.waits:
        outcome.gaps.append(awaited.wait())
    backs = [trial.await_write(number) for number in hurt]
    took = [back.wait() for back in backs]
    outcome.backs.append(max(took, default=0.0))
    for number in range(members.size):
        # Told with its log, if it has ended.
        members.programs[number].alive()
        trial.await_write(number).wait()
    outcome.pauses.append(trial.longest())
    outcome.rounds += 1
    measured = [f"{values[-1]:.0f}" for values in [outcome.gaps, outcome.pauses, outcome.backs] if values]
    members.rounds.append(f"{at.isoformat()} n{leader} led, hurt {hurt}: {' '.join(measured)} ms")
    if members.led() != leader:
        outcome.moved += 1
        if not fault.moves:
            outcome.wrong.append(f"round {outcome.rounds}: the leader moved")
    time.sleep(random.uniform(0.2, 0.8))


def shown(members: Members, number: int) -> list[tuple[str, str, dict]]:
    """All ConfigMaps as one member has them."""
    status, answer = members.ask(number, "GET", "/api/v1/configmaps")
    if status != 200:
        return [(str(status), str(answer), {})]
    items = [(item["metadata"]["name"], item["metadata"]["resourceVersion"], item["data"]) for item in answer["items"]]
    return sorted(items, key=lambda item: item[0])


def trial_of(fault: Fault, members: Members, rounds: int) -> Outcome:
    outcome = Outcome(fault.title)
    with clients.writing(members) as (trial, chains):
        try:
            for _ in range(rounds):
                strike(members, fault, trial, outcome)
        except TimeoutError:
            members.rounds += [members.keel(number, "cluster").stdout for number in range(members.size)]
            raise
    wait(lambda: shown(members, 0) == shown(members, 1) == shown(members, 2), "the members to hold the same")
    last = {name: int(data.get("number", 0)) for name, _, data in shown(members, 0)}
    for chain in chains:
        name = chain.target.rsplit("/", 1)[1]
        if last[name] < chain.acknowledged:
            outcome.lost.append(f"{name}: {chain.acknowledged} was acknowledged, {last[name]} is there")
    outcome.wrong += members.wrong
    outcome.notes = ", ".join(f"{word}: {count}" for word, count in members.notes.items())
    outcome.broken = [word for chain in chains for word in chain.broken]
    outcome.acknowledged = trial.acknowledged
    return outcome


def main() -> int:
    target = Path(__file__).resolve().parent.parent.parent / "target/release"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keel", type=Path, default=target / "keel")
    parser.add_argument("--load", type=Path, default=target / "load")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--log", default="info,openraft=off", help="what the agents tell, as KEEL_LOG")
    parser.add_argument("--keep", type=Path, help="a folder in which the agents' logs are kept")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help=", ".join(FAULTS))
    args = parser.parse_args()
    unknown = set(args.faults) - set(FAULTS)
    if unknown:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    apart.move_out()
    good = True
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for name in args.faults or FAULTS:
        fault = FAULTS[name]
        with apart.folder() as folder, contextlib.ExitStack() as opened:
            load = Load(args.load.resolve())
            members = Members(folder, load, args.keel.resolve(), clients.CLIENTS, args.log, fault.disk_mib, fault.manifest)
            opened.callback(members.close)
            if args.keep:
                opened.callback(keep, members, args.keep / name)
            members.open()
            outcome = trial_of(fault, members, args.rounds)
        print(outcome.line(), flush=True)
        for word in outcome.wrong:
            print(f"{name}: {word}", file=sys.stderr, flush=True)
        good = good and not (outcome.lost or outcome.broken or outcome.wrong)
    return 0 if good else 1


def keep(members: Members, folder: Path):
    folder.mkdir(parents=True, exist_ok=True)
    for number in members.programs:
        (folder / f"n{number}.log").write_text(members.said(number))
    (folder / "rounds.log").write_text("\n".join(members.rounds) + "\n")


if __name__ == "__main__":
    sys.exit(main())
