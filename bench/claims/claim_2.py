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

C, PYTHON, LATER = "C", "Python", "C that pauses"
PAUSE_NS = 1000
"""Between a look that found nothing and the last one before a sleep."""


def claim(bench: Bench) -> Section:
    depths = [1, 8, 64, 1024] if bench.quick else [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    wake_up_us = typical_wake_up(bench)

    def in_c(pause: int) -> dict[int, list[Results]]:
        how = {"polling": "never", "time": 1e8, "before_sleep": pause}
        return in_turn(bench.rounds, depths, lambda depth: bench.run("calls", depth=depth, **how))

    def in_python() -> dict[int, list[Results]]:
        with python_driver(bench.folder, bench.cpus, "never") as driver:
            return in_turn(bench.rounds, depths, lambda depth: map_rate(driver, depth, 0.15))

    runs = {C: in_c(0), PYTHON: in_python(), LATER: in_c(PAUSE_NS)}
    rates, kicks, slept = (
        {
            name: {depth: median(results, what) for depth, results in of_depth.items()}
            for name, of_depth in runs.items()
        }
        for what in ("rate", "kicks", "slept")
    )
    with plots.figure(bench.figures / "claim-2.png") as axes:
        for name, series in rates.items():
            style = {"linestyle": ":"} if name == LATER else {}
            plots.line(axes, series, f"{name}, no polling", **style)
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
                f"{number(rates[name][depth])} / {number(1000 * kicks[name][depth])} / "
                f"{number(100 * slept[name][depth])}"
                for name in runs
            ),
        ]
        for depth in depths
    ]
    verdict = rate_against_depth({name: rates[name] for name in (C, PYTHON)}, wake_up_us)
    why = why_slower(C, PYTHON, LATER, rates, kicks, slept)
    return Section(
        number=2,
        claim="W does not limit the rate to 1/W",
        how=(
            "`bench/c/calls.c` and `Driver.map` in Python. The driver keeps so many requests in "
            "flight and sends one after each answer, the device answers each, and neither polls "
            '(`polling="never"`), so each sleeps as soon as there is nothing there. Messages of 48 '
            f"bytes in C and 64 in Python, two CPUs, median of {bench.rounds} rounds in turn. W is "
            "that of claim 1 after 100 us of sleep on another CPU, measured in this run. A side "
            "that has found nothing looks once more before it sleeps. Before that look Python lets "
            f"other threads run. *{LATER}* takes {number(PAUSE_NS / 1e3)} us there. In the table: "
            "requests/s / kicks per 1,000 requests / how many of 100 looks that found nothing "
            "ended in a sleep."
        ),
        verdict=replace(verdict, text=verdict.text + why),
        figure="claim-2.png",
        tables=[rows],
    )
