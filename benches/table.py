"""What was measured, as a Markdown table: keel beside each peer, and the ratio."""

import statistics
import sys


class Table:
    """Measures by name and peer, in the order of their coming."""

    def __init__(self):
        self.rows = {}

    def add(self, measure: str, peer: str, samples: list[float]):
        self.rows.setdefault(measure, {})[peer] = samples
        print(f"  {measure}: {peer} {show(samples)}", file=sys.stderr, flush=True)

    def print(self):
        print("| measure | keel | peer | | keel / peer |\n|---|---|---|---|---|")
        for measure, samples in self.rows.items():
            keel = samples.get("keel")
            others = {peer: values for peer, values in samples.items() if peer != "keel"} or {"–": None}
            for peer, values in others.items():
                ratio = f"{middle(keel) / middle(values):.2f}" if keel and values and middle(values) else "–"
                print(f"| {measure} | {show(keel)} | {peer} | {show(values)} | {ratio} |")


def middle(samples: list[float]) -> float:
    return statistics.median(samples)


def show(samples: list[float] | None) -> str:
    if not samples:
        return "–"
    form = "{:.0f}" if middle(samples) >= 100 else "{:.2f}"
    spread = f" ({form.format(min(samples))}–{form.format(max(samples))})" if len(samples) > 1 else ""
    return form.format(middle(samples)) + spread


def rounds(table: Table, peers: list, runs: int, measure):
    """`measure(peer)` of each peer after that of each other, `runs` times, so that a noisy machine
    disturbs all alike. It gives values by the measures' names."""
    samples = {}
    for _ in range(runs):
        for peer in peers:
            for name, value in measure(peer).items():
                samples.setdefault((peer.name, name), []).append(value)
    for (peer, name), values in samples.items():
        table.add(name, peer, values)
