# SPDX-License-Identifier: MIT
"""The core in C against boost's queue, element by element, in one run and in turn.

    python bench/core.py [--rounds 7] [--scale 1]

The same rows as in the comparison with other libraries, without the rest of it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from machine import describe
from peers import report
from peers.c_rows import CRows
from peers.machine_state import MachineState

from ringbell.pinning import choose_pair


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="how long a run takes")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("This benchmark needs two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        in_c = CRows(Path(folder), cpus, MachineState(Path(folder), cpus))
        lines = in_c.run(options.rounds, options.scale)
    print(f"{describe(cpus)}, {options.rounds} rounds")
    for note in in_c.notes:
        print(note)
    report.print_states(in_c.states)
    report.print_lines(lines)
    return 0 if all(line.reached is not False for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
