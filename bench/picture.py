# SPDX-License-Identifier: MIT
"""Draws the comparison of the README from what `bench/compare.py --json` printed.

    python bench/compare.py --json > docs/figures/comparison.json
    python bench/picture.py [docs/figures/comparison.json [docs/figures/comparison.png]]

Each group of bars is one measurement: ringbell, the best other library in it, and Pipe.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from claims import plots
from peers.registry import PEERS
from peers.rows import OURS

FIGURES = Path(__file__).parent.parent / "docs/figures"
PIPE = "pipe"
COLOURS = {"ours": "#0b62a4", "best": "#d1491b", PIPE: "#9a9a9a"}
Key = tuple[str, str]
# The measurement of ours and that of the others. They differ where the others have no such call.
RATES: dict[str, tuple[Key, Key]] = {
    "64 bytes,\none by one": (("one way", "rate"), ("one way", "rate")),
    "1,024 bytes,\none by one": (("one way 1024", "rate"), ("one way 1024", "rate")),
    "64 bytes,\nlists of 64": (("lists", "rate"), ("lists", "rate")),
    "requests,\n128 in flight": (("in flight", "rate"), ("in flight", "rate")),
}
TIMES: dict[str, tuple[Key, Key]] = {
    "send, recv\nand back": (("echo", "p50"), ("echo", "p50")),
    "call of a Python\nfunction": (("call", "p50"), ("echo", "p50")),
    "after 10 ms\nof idleness": (("idle", "p50"), ("idle", "p50")),
}


def medians(found: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    return {
        (value["measurement"], value["field"], value["peer"]): statistics.median(value["rounds"])
        for value in found["values"]
    }


def bars(
    values: dict[tuple[str, str, str], float], ours: Key, theirs: Key
) -> list[tuple[str, str, float]]:
    """Give name, colour and height of each bar of a group; the best is the fastest of them."""
    others = {
        peer: value
        for (measurement, field, peer), value in values.items()
        if (measurement, field) == theirs and peer not in (OURS, PIPE)
    }
    best = (max if ours[1] == "rate" else min)(others, key=lambda peer: others[peer], default="")
    found = [("ringbell", COLOURS["ours"], values[*ours, OURS])]
    if best:
        found.append((PEERS[best].name, COLOURS["best"], others[best]))
    if (*theirs, PIPE) in values:
        found.append(("Pipe", COLOURS[PIPE], values[*theirs, PIPE]))
    return found


def shown(value: float, unit: str) -> str:
    if unit == "rate":
        return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value / 1e6:.2f} M"
    return f"{value:.2f} us" if value < 10 else f"{value:.0f} us"


def draw(
    axes: Any, values: dict[tuple[str, str, str], float], groups: dict[str, tuple[Key, Key]]
) -> None:
    position, ticks = 0.0, []
    for ours, theirs in groups.values():
        first = position
        for name, colour, value in bars(values, ours, theirs):
            axes.barh(position, value, 0.82, color=colour)
            axes.annotate(
                f" {name} {shown(value, ours[1])}", (value, position), va="center", fontsize=7.5
            )
            position += 1
        ticks.append((first + position - 1) / 2)
        position += 0.6
    axes.set_yticks(ticks, list(groups))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.32)
    axes.set_xlim(left=0)


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else FIGURES / "comparison.json"
    target = Path(sys.argv[2]) if len(sys.argv) > 2 else FIGURES / "comparison.png"
    found = json.loads(source.read_text())
    values = medians(found)
    with plots.figure(target, columns=2) as axes:
        for column, groups in enumerate((RATES, TIMES)):
            draw(axes[0][column], values, groups)
        axes[0][0].set_title("a second, more is better", fontsize=9, loc="left")
        axes[0][1].set_title("there and back, less is better", fontsize=9, loc="left")
        axes[0][0].figure.text(0.01, 0.005, found["machine"], fontsize=6, color="#555555")


if __name__ == "__main__":
    main()
