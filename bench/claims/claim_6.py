# SPDX-License-Identifier: MIT
"""Adaptive polling against none and against polling always."""

from __future__ import annotations

from claims import plots
from claims.programs import Bench, Results, in_turn, median
from claims.section import Section
from claims.verdicts import Polling, adaptive_polling, duration, number

POLLING = ["never", "adaptive", "always"]
BOUND_US = 100
REGULAR, IRREGULAR = "regular", "irregular"
NOTHING_ELSE, BUSY, ONE_CPU, LONG_ASLEEP = (
    "nothing else runs",
    "the device's CPU is busy",
    "both sides on one CPU",
    "asleep between calls",
)


def claim(bench: Bench) -> Section:
    gaps_us = [5, 10, 20, 50, 100, 200, 500, 1000, 3000, 10000]
    if bench.quick:
        gaps_us = [10, 50, 200, 2000]

    def measure(case: tuple[str, str, int]) -> Results:
        traffic, polling, gap_us = case
        time = 5e7 if bench.quick else min(max(1e8, 200e3 * gap_us), 5e8)
        return bench.run(
            "stream",
            gap=gap_us * 1e3,
            random=traffic == IRREGULAR,
            time=time,
            polling=polling,
            max_poll=BOUND_US * 1e3,
        )

    cases = [
        (traffic, polling, gap)
        for traffic in (REGULAR, IRREGULAR)
        for gap in gaps_us
        for polling in POLLING
    ]
    runs = in_turn(bench.rounds, cases, measure)

    def of(traffic: str, what: str, polling: str) -> dict[float, float]:
        return {gap: median(runs[traffic, polling, gap], what) for gap in gaps_us}

    traffics = {
        traffic: {
            polling: Polling(of(traffic, "p50_us", polling), of(traffic, "cpu_us", polling))
            for polling in POLLING
        }
        for traffic in (REGULAR, IRREGULAR)
    }
    with plots.figure(bench.figures / "claim-6.png", columns=2, rows=2) as axes:
        for column, traffic in enumerate((REGULAR, IRREGULAR)):
            for polling in POLLING:
                plots.line(axes[0][column], traffics[traffic][polling].latency, polling)
                share = of(traffic, "cpu_share", polling)
                percent = {gap: 100 * value for gap, value in share.items()}
                plots.line(axes[1][column], percent, polling)
            x = "time between requests (us)"
            plots.label(axes[0][column], x, "latency, p50 (us)", title=f"{traffic} traffic")
            plots.label(axes[1][column], x, "CPU of the device (%)", log="x")
            axes[1][column].set_ylim(bottom=0)
    hard = hard_cases(bench)
    one_cpu = {polling: median(hard[ONE_CPU, polling], "p50_us") for polling in POLLING}
    return Section(
        number=6,
        claim=(
            "Adaptive polling removes W when traffic is regular, and costs at most its bound when "
            "it is not"
        ),
        how=(
            "`bench/c/stream.c`, one way, entries exactly so far apart (regular) or at exponential "
            "times of that mean (irregular), no work; and for the second table `bench/c/calls.c`, "
            "one call after the other. *Busy*: a process that computes all the time is pinned to "
            f"the device's CPU. *Asleep*: the driver pauses for {duration(pause_us(bench))} "
            "between its calls, and so does the device. The bound of adaptive polling is "
            f"{BOUND_US} us, the default. Median of {bench.rounds} rounds in turn, two CPUs but "
            "where it says one. In the first table: p50 in us, and CPU time of the device per "
            "request in us."
        ),
        verdict=adaptive_polling(traffics[REGULAR], traffics[IRREGULAR], one_cpu, BOUND_US),
        figure="claim-6.png",
        tables=[table_of_gaps(traffics, gaps_us), table_of_hard_cases(hard)],
    )


def pause_us(bench: Bench) -> float:
    return 1e5 if bench.quick else 1e6


def hard_cases(bench: Bench) -> dict[tuple[str, str], list[Results]]:
    time = 1e8 if bench.quick else 4e8
    options = {
        NOTHING_ELSE: {"time": time},
        BUSY: {"time": time, "busy": 1},
        ONE_CPU: {"time": time, "device": bench.cpus[0]},
        LONG_ASLEEP: {"time": 3.5 * pause_us(bench) * 1e3, "pause": pause_us(bench) * 1e3},
    }

    def measure(case: tuple[str, str]) -> Results:
        name, polling = case
        return bench.run("calls", polling=polling, max_poll=BOUND_US * 1e3, **options[name])

    cases = [(name, polling) for name in options for polling in POLLING]
    runs = in_turn(bench.rounds, [case for case in cases if case[0] != LONG_ASLEEP], measure)
    # These take seconds each, so one round has to do.
    return runs | in_turn(1, [case for case in cases if case[0] == LONG_ASLEEP], measure)


def table_of_gaps(traffics: dict[str, dict[str, Polling]], gaps_us: list[int]) -> list[list[str]]:
    rows = [["apart"] + [f"{traffic}, {polling}" for traffic in traffics for polling in POLLING]]
    for gap in gaps_us:
        cells = [
            f"{number(ways[polling].latency[gap])} / {number(ways[polling].cpu[gap])}"
            for ways in traffics.values()
            for polling in POLLING
        ]
        rows.append([duration(gap), *cells])
    return rows


def table_of_hard_cases(hard: dict[tuple[str, str], list[Results]]) -> list[list[str]]:
    rows = [["case", "polling", "p50", "p99", "calls/s", "CPU of the driver", "of the device"]]
    for (name, polling), results in hard.items():
        times = [duration(median(results, what)) for what in ("p50_us", "p99_us")]
        shares = [
            f"{number(100 * median(results, what))} %" for what in ("driver_share", "device_share")
        ]
        rows.append([name, polling, *times, number(median(results, "rate")), *shares])
    return rows
