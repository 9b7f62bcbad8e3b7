# SPDX-License-Identifier: MIT
"""ringbell compared with other libraries, in one run and in turn; bench/README.md explains it.

    python bench/compare.py [--rounds 5] [--rows "one way,echo"] [--peers zeroq,tachyon]
                            [--scale 1] [--json]

A peer that is not installed is left out, with a line that says so; `make bench` installs them.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from machine import describe
from peers import behaviour, c_rows, report
from peers.machine_state import MachineState
from peers.measure import Comparison
from peers.registry import PEERS, why_missing
from peers.rows import MEASUREMENTS, OURS, ROWS, needed

from ringbell.pinning import choose_pair

BEHAVIOUR, IN_C = "behaviour", "C"


def names(text: str, known: list[str]) -> list[str]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return wanted


def parse() -> argparse.Namespace:
    groups = [*MEASUREMENTS, IN_C, BEHAVIOUR]
    peers = [module for module in PEERS if module != OURS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 make a median")
    parser.add_argument("--rows", type=lambda text: names(text, groups), default=groups)
    parser.add_argument("--peers", type=lambda text: names(text, peers), default=peers)
    parser.add_argument("--scale", type=float, default=1.0, help="how long a run takes")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    # As an exception, SIGTERM lets each block remove what a run has made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = parse()
    cpus = choose_pair()
    if cpus is None:
        print("This benchmark needs two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    missing = [line for module in options.peers if (line := why_missing(module))]
    modules = [OURS, *(module for module in options.peers if not why_missing(module))]
    rows = [row for row in ROWS if row.group in options.rows]

    def say(what: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{what} ...", end="", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="rb-", ignore_cleanup_errors=True) as folder:
        state = MachineState(Path(folder), cpus)
        peers = {module: PEERS[module] for module in modules}
        comparison = Comparison(peers, state, options.rounds, options.scale)
        findings = comparison.run(needed(rows), cpus, say)
        in_c = c_rows.CRows(Path(folder), cpus, state)
        c_lines = in_c.run(options.rounds, options.scale) if IN_C in options.rows else []
    say(BEHAVIOUR)
    behaviours = behaviour.of_everybody(modules) if BEHAVIOUR in options.rows else []
    lines = report.lines_of(rows, findings) + c_lines
    notes = missing + findings.notes + in_c.notes
    where = f"{describe(cpus)}, {options.rounds} rounds"
    if options.json:
        print(
            json.dumps(
                {
                    "machine": where,
                    "rows": [line._asdict() for line in lines],
                    "values": [
                        {"measurement": key[0], "peer": key[1], "field": key[2], "rounds": values}
                        for key, values in findings.values.items()
                    ],
                    "cache_line_ns": findings.states | in_c.states,
                    "behaviour": [asdict(one) for one in behaviours],
                    "notes": notes,
                },
                indent=2,
            )
        )
        return 0
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(where)
    report.print_everything(lines, findings, modules, in_c.states, behaviours, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
