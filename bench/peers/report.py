# SPDX-License-Identifier: MIT
"""Prints the tables of what was found, or gives them as JSON."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from peers import behaviour
from peers.behaviour import Behaviour
from peers.measure import Findings
from peers.registry import PEERS
from peers.rows import BEST, OURS, Row


class Line(NamedTuple):
    """One line of the table of targets. The spread is that of the rounds' ratios."""

    what: str
    ours: float
    peer: str
    theirs: float
    ratio: float
    least: float
    most: float
    target: str | None
    reached: bool | None


def lines_of(rows: list[Row], findings: Findings) -> list[Line]:
    """Give a line for each row whose two sides have been measured."""
    return [line for row in rows if (line := _line(row, findings))]


def _line(row: Row, findings: Findings) -> Line | None:
    where, what = row.theirs
    peer = findings.best(where, what) if row.peer == BEST else row.peer
    ours = findings.of(row.ours[0], OURS, row.ours[1])
    theirs = findings.of(where, peer, what) if peer else None
    if not ours or not theirs:
        return None
    ratios = [a / b for a, b in zip(ours, theirs, strict=False)]
    ratio = statistics.median(ratios)
    sign = ">=" if row.more_is_better else "<="
    return Line(
        row.what,
        statistics.median(ours),
        PEERS[peer].name,
        statistics.median(theirs),
        ratio,
        min(ratios),
        max(ratios),
        None if row.target is None else f"{sign} {row.target:g}",
        row.reached(ratio),
    )


def print_lines(lines: list[Line]) -> None:
    header = f"{'':46}{'ringbell':>12}{'peer':>12}  {'':10}{'ratio':>7}  {'spread':15}"
    print(f"{header}{'to reach':10}reached")
    for line in lines:
        reached = "" if line.reached is None else "yes" if line.reached else "NO"
        spread = f"{_ratio(line.least)}..{_ratio(line.most)}"
        print(
            f"{line.what:46}{number(line.ours):>12}{number(line.theirs):>12}  {line.peer:10}"
            f"{_ratio(line.ratio):>7}  {spread:15}{line.target or '':10}{reached}".rstrip()
        )


def print_everybody(findings: Findings, modules: list[str]) -> None:
    """Print the median of each library in each measurement."""
    print(f"{'medians':20}" + "".join(f"{PEERS[module].name:>11}" for module in modules))
    for measurement in findings.states:
        fields = {what for where, _, what in findings.values if where == measurement}
        for what in sorted(fields, key=["rate", "cpu", "p50", "p99"].index):
            cells = [findings.median(measurement, module, what) for module in modules]
            unit = {"rate": "/s", "cpu": "CPU ns", "p50": "p50 us", "p99": "p99 us"}[what]
            words = "".join(f"{'' if cell is None else number(cell):>11}" for cell in cells)
            print(f"{measurement + ', ' + unit:20}{words}".rstrip())


def print_states(states_of: dict[str, list[float | None]]) -> None:
    print("a cache line to the other CPU and back, ns, before each round:")
    for measurement, states in states_of.items():
        cells = "".join(f"{'?' if state is None else round(state):>6}" for state in states)
        print(f"  {measurement:18}{cells}")


def number(value: float) -> str:
    """Write a number with about three significant digits."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def print_everything(
    lines: list[Line],
    findings: Findings,
    modules: list[str],
    c_states: dict[str, list[float | None]],
    behaviours: list[Behaviour],
    notes: list[str],
) -> None:
    if lines:
        print_lines(lines)
        print()
    if findings.states:
        print_everybody(findings, modules)
        print()
    if findings.states or c_states:
        print_states(findings.states | c_states)
        print()
    if behaviours:
        behaviour.print_table(behaviours)
        print()
    if findings.runs:
        print(
            f"{findings.runs} runs; messages lost or payloads wrong in {findings.spoiled} of them"
        )
    for note in notes:
        print(note)
