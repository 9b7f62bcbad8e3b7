# SPDX-License-Identifier: MIT
"""Request and device on one CPU against two."""

from __future__ import annotations

import statistics

from claims import plots
from claims.programs import Bench, in_turn, median
from claims.python_side import call_rate, map_rate, python_driver
from claims.section import Section
from claims.verdicts import number, two_cpus

# On one CPU polling only keeps the other side from running, so there is none.
SLEEPING, POLLING, MANY = (
    "one at a time without polling",
    "one at a time with polling",
    "with 128 in flight",
)
ONE = {SLEEPING: ("never", 1), MANY: ("never", 128)}
TWO = {SLEEPING: ("never", 1), POLLING: ("adaptive", 1), MANY: ("adaptive", 128)}


def claim(bench: Bench) -> Section:
    works_us = [0, 10] if bench.quick else [0, 1, 3, 10, 30, 100]
    time = 5e7 if bench.quick else 1e8
    ways = [(1, name) for name in ONE] + [(2, name) for name in TWO]

    def measure(case: tuple[int, str, float]) -> dict[str, float]:
        cpus, name, work_us = case
        polling, depth = (ONE if cpus == 1 else TWO)[name]
        return bench.run(
            "calls",
            device=bench.cpus[cpus - 1],
            driver=bench.cpus[0],
            polling=polling,
            depth=depth,
            work=work_us * 1e3,
            own_work=work_us * 1e3,
            time=time,
        )

    runs = in_turn(bench.rounds, [(*way, work) for work in works_us for way in ways], measure)
    rates = {way: {work: median(runs[(*way, work)], "rate") for work in works_us} for way in ways}
    with plots.figure(bench.figures / "claim-8.png") as axes:
        for (cpus, name), series in rates.items():
            # Less than all the others, and zero has no place on a logarithmic axis.
            shifted = {work or 0.3: rate for work, rate in series.items()}
            style = {"linestyle": "--"} if cpus == 1 else {}
            plots.line(axes, shifted, f"{'one CPU' if cpus == 1 else 'two CPUs'}, {name}", **style)
        plots.label(
            axes,
            "work on each side for each request (us); the first point is none",
            "requests/s",
            title="Both sides on one CPU, and on two",
        )
    rows = [
        ["work on each side", *(f"{'one CPU' if c == 1 else 'two CPUs'}, {n}" for c, n in ways)]
    ]
    rows += [[f"{work} us", *(number(rates[way][work]) for way in ways)] for work in works_us]
    one = {name: rates[1, name if name in ONE else SLEEPING] for name in TWO}
    two = {name: rates[2, name] for name in TWO}
    return Section(
        number=8,
        claim="Two CPUs are faster than one, where each exchange is a context switch each way",
        how=(
            "`bench/c/calls.c`. The device computes so long for each request, and the driver for "
            "each answer. On one CPU neither side polls, since that only keeps the other from "
            "running; on two it is said. Polling is adaptive, and is there *with 128 in flight* on "
            "two CPUs, too; polling on two CPUs is held against one at a time on one CPU. The "
            "second table is `Driver.call` and `Driver.map` between two Python processes, 64 "
            f"bytes, a handler that returns its payload. Median of {bench.rounds} rounds in turn."
        ),
        verdict=two_cpus(one, two),
        figure="claim-8.png",
        tables=[rows, python_table(bench)],
    )


def python_table(bench: Bench) -> list[list[str]]:
    seconds = 0.1 if bench.quick else 0.3
    rows = [["Python", "call, /s", "map(depth=128), /s"]]
    one = (bench.cpus[0], bench.cpus[0])
    for name, cpus, polling in (
        ("one CPU, no polling", one, "never"),
        ("two CPUs, no polling", bench.cpus, "never"),
        ("two CPUs, adaptive polling", bench.cpus, "adaptive"),
    ):
        with python_driver(bench.folder, cpus, polling) as driver:
            rates = in_turn(
                bench.rounds,
                ("call", "map"),
                lambda way, driver=driver: (
                    call_rate(driver, seconds)
                    if way == "call"
                    else map_rate(driver, 128, seconds)["rate"]
                ),
            )
        rows.append([name, *(number(statistics.median(values)) for values in rates.values())])
    return rows
