# SPDX-License-Identifier: MIT
"""Figures against their peers and their targets, as rows of one table."""

from __future__ import annotations

import json
import statistics
from typing import NamedTuple


class Row(NamedTuple):
    """One figure, that of its peer, and the target; None where there is none."""

    what: str
    ours: float
    peer: str | None = None
    theirs: float | None = None
    ratio: float | None = None
    target: str | None = None
    reached: bool | None = None
    spread: tuple[float, float] | None = None
    """The least and the greatest of the rounds' ratios."""


def compare(
    what: str,
    peer: str,
    pairs: list[tuple[float, float]],
    target: float,
    less_is_better: bool = False,
) -> Row:
    """Compare ours with theirs, round by round: the ratio says how many times better we are."""
    ratios = [b / a if less_is_better else a / b for a, b in pairs]
    ratio = statistics.median(ratios)
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    spread = min(ratios), max(ratios)
    return Row(what, ours, peer, theirs, ratio, f">= {target:g}", ratio >= target, spread)


def at_least(what: str, values: list[float], target: float) -> Row:
    median = statistics.median(values)
    return Row(what, median, target=f">= {target:g}", reached=median >= target)


def at_most(what: str, values: list[float], target: float) -> Row:
    median = statistics.median(values)
    return Row(what, median, target=f"<= {target:g}", reached=median <= target)


def below(what: str, values: list[float], target: float) -> Row:
    median = statistics.median(values)
    return Row(what, median, target=f"< {target:g}", reached=median < target)


def show(rows: list[Row], machine: str, as_json: bool) -> int:
    """Print all of it; return the exit code, 1 if something was not reached."""
    if as_json:
        print(json.dumps({"machine": machine, "rows": [row._asdict() for row in rows]}, indent=1))
    else:
        print(machine)
        print_table(rows)
    return 0 if all(row.reached is not False for row in rows) else 1


def print_table(rows: list[Row]) -> None:
    wide = max([46, *(len(row.what) + 1 for row in rows)])
    header = f"{'':{wide}}{'ringbell':>16}{'peer':>16}  {'':11}{'ratio':>8}  {'spread':16}"
    print(f"{header}{'target':9}reached")
    for row in rows:
        cells = [f"{row.what:{wide}}", f"{row.ours:16,.2f}"]
        cells.append(f"{row.theirs:16,.2f}" if row.theirs is not None else " " * 16)
        cells.append(f"  {row.peer or '':11}")
        cells.append(f"{row.ratio:8.2f}" if row.ratio is not None else " " * 8)
        spread = f"{row.spread[0]:.2f}..{row.spread[1]:.2f}" if row.spread else ""
        cells.append(f"  {spread:16}")
        if row.target is not None:
            cells.append(f"{row.target:9}{'yes' if row.reached else 'NO'}")
        print("".join(cells).rstrip())
