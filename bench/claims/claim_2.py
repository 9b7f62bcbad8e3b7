# SPDX-License-Identifier: MIT
"""The rate against the number of requests in flight."""

from __future__ import annotations

from dataclasses import replace

from claims import plots
from claims.claim_1 import typical_wake_up
from claims.programs import Bench, Results, in_turn, median
from claims.python_side import map_rate, python_driver
from claims.section import Section
from claims.verdicts import number, rate_against_depth, why_slower

C_NEVER, PYTHON_NEVER, C_WORKING = "C", "Python", "C as slow as Python"
WORK_NS = 1000
"""About what Python takes for a request, so that C is as slow."""


def claim(bench: Bench) -> Section:
    depths = [1, 8, 64, 1024] if bench.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    wake_up_us = typical_wake_up(bench)

    def in_c(work: int) -> dict[int, list[Results]]:
        how = {"polling": "never", "time": 1e8, "work": work, "own_work": work, "in_turn": work > 0}
        return in_turn(bench.rounds, depths, lambda depth: bench.run("calls", depth=depth, **how))

    runs = {C_NEVER: in_c(0), C_WORKING: in_c(WORK_NS)}
    with python_driver(bench.folder, bench.cpus, "never") as driver:
        runs[PYTHON_NEVER] = in_turn(
            bench.rounds, depths, lambda depth: map_rate(driver, depth, 0.15)
        )
    rates, kicks = (
        {
            name: {depth: median(results, what) for depth, results in of_depth.items()}
            for name, of_depth in runs.items()
        }
        for what in ("rate", "kicks")
    )
    with plots.figure(bench.figures / "claim-2.png") as axes:
        for name, series in rates.items():
            plots.line(axes, series, f"{name}, no polling")
        axes.axhline(1e6 / wake_up_us, color="black", linestyle="--", linewidth=1, label="1/W")
        plots.label(
            axes,
            "requests in flight",
            "requests/s",
            title="Rate against queue depth, both sides asleep whenever there is nothing to do",
        )
    rows = [["in flight", *runs]]
    rows += [
        [
            f"{depth:,}",
            *(
                f"{number(rates[name][depth])} / {number(1000 * kicks[name][depth])}"
                for name in runs
            ),
        ]
        for depth in depths
    ]
    judged = {name: rates[name] for name in (C_NEVER, PYTHON_NEVER)}
    verdict = rate_against_depth(judged, wake_up_us)
    why = why_slower(C_NEVER, PYTHON_NEVER, C_WORKING, rates, kicks)
    return Section(
        number=2,
        claim="W does not limit the rate to 1/W",
        how=(
            "`bench/c/calls.c` and `Driver.map` in Python. The driver keeps so many requests in "
            'flight, the device answers each, and neither polls (`polling="never"`), so each '
            "sleeps as soon as there is nothing there. Messages of 48 bytes in C and 64 in Python, "
            f"two CPUs, median of {bench.rounds} rounds in turn. W is that of claim 1 after 100 us "
            "of sleep on another CPU, measured in this run. *C as slow as Python* works 1 us "
            "for each request on each side, and sends a request after each answer, as `map` does. "
            "In the table: requests/s / kicks per 1,000 requests."
        ),
        verdict=replace(verdict, text=verdict.text + why),
        figure="claim-2.png",
        tables=[rows],
    )
