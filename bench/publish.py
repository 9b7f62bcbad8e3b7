# SPDX-License-Identifier: MIT
"""One writer and many readers: the figures of publications, in one run and in turn.

    python bench/publish.py [--rounds 3] [--rows stream,others,paced,frames,killed] [--scale 1]
                            [--json]

bench/README.md says what is measured. A ratio says how many times better ours is, and is the median
of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from machine import describe
from peers import report
from peers.machine_state import MachineState
from publications import fanout, frames, killed, paced
from table import Row, print_table

from ringbell.pinning import choose_pair

Rows = Callable[[], Iterator[Row]]


def say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what} ...", end="", file=sys.stderr, flush=True)


def measurements(
    rounds: int, scale: float, cpus: tuple[int, int], notes: list[str]
) -> dict[str, Rows]:
    return {
        "stream": lambda: fanout.against_a_stream(rounds, cpus, scale),
        "others": lambda: fanout.against_others(rounds, cpus, scale, say, notes),
        "paced": lambda: paced.rows(rounds, cpus, scale),
        "frames": lambda: frames.rows(cpus, scale),
        "killed": lambda: killed.rows(rounds, cpus, scale),
    }


def main() -> int:
    names = list(measurements(1, 1, (0, 0), []))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="at least 5 make a median")
    parser.add_argument("--rows", default=",".join(names))
    parser.add_argument("--scale", type=float, default=1.0, help="how long a run takes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"--rows has {unknown[0]!r}, which is none of {', '.join(names)}")
    cpus = choose_pair()
    if cpus is None:
        print("This benchmark needs two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    rows: list[Row] = []
    notes: list[str] = []
    states: dict[str, list[float | None]] = {}
    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
        state = MachineState(Path(folder), cpus)
        for name, measure in measurements(options.rounds, options.scale, cpus, notes).items():
            if name in wanted:
                say(name)
                before = state.now()
                rows += measure()
                states[name] = [before, state.now()]
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    show(rows, f"{describe(cpus)}, {options.rounds} rounds", states, notes, options.json)
    return 0 if all(row.reached is not False for row in rows) else 1


def show(
    rows: list[Row],
    machine: str,
    states: dict[str, list[float | None]],
    notes: list[str],
    as_json: bool,
) -> None:
    if as_json:
        found = [row._asdict() for row in rows]
        whole = {"machine": machine, "rows": found, "cache_line_ns": states, "notes": notes}
        print(json.dumps(whole, indent=1))
        return
    print(machine)
    print_table(rows)
    print("\nEach is measured between two looks at the machine:")
    report.print_states(states)
    for note in notes:
        print(note)


if __name__ == "__main__":
    sys.exit(main())
