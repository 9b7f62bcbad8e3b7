# SPDX-License-Identifier: MIT
"""The rate against the number of requests in flight."""

from __future__ import annotations

import statistics

from claims import plots
from claims.claim_1 import typical_wake_up
from claims.programs import Bench, in_turn, median
from claims.python_side import map_rate, python_driver
from claims.section import Section
from claims.verdicts import number, rate_against_depth

C_NEVER, PYTHON_NEVER = "C", "Python"


def claim(bench: Bench) -> Section:
    depths = [1, 8, 64, 1024] if bench.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    wake_up_us = typical_wake_up(bench)
    runs = in_turn(
        bench.rounds,
        depths,
        lambda depth: bench.run("calls", depth=depth, polling="never", time=1e8),
    )
    with python_driver(bench.folder, bench.cpus, "never") as driver:
        python = in_turn(bench.rounds, depths, lambda depth: map_rate(driver, depth, 0.15))
    rates = {
        C_NEVER: {depth: median(results, "rate") for depth, results in runs.items()},
        PYTHON_NEVER: {depth: statistics.median(values) for depth, values in python.items()},
    }
    kicks = {depth: median(results, "kicks") for depth, results in runs.items()}
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
    rows = [["in flight", "C, requests/s", "kicks per 1,000 requests", "Python, requests/s"]]
    rows += [
        [
            f"{depth:,}",
            number(rates[C_NEVER][depth]),
            number(1000 * kicks[depth]),
            number(rates[PYTHON_NEVER][depth]),
        ]
        for depth in depths
    ]
    return Section(
        number=2,
        claim="W does not limit the rate to 1/W",
        how=(
            "`bench/c/calls.c` and `Driver.map` in Python. The driver keeps so many requests in "
            'flight, the device answers each, and neither polls (`polling="never"`), so each '
            "sleeps as soon as there is nothing there. Messages of 48 bytes in C and 64 in Python, "
            f"two CPUs, median of {bench.rounds} rounds in turn. W is that of claim 1 after 100 us "
            "of sleep on another CPU, measured in this run."
        ),
        verdict=rate_against_depth(rates, wake_up_us),
        figure="claim-2.png",
        tables=[rows],
    )
