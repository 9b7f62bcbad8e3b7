# SPDX-License-Identifier: MIT
"""What a wake-up costs, after sleeps of many lengths."""

from __future__ import annotations

import statistics

from claims import plots
from claims.programs import Bench, Results
from claims.section import Section
from claims.verdicts import duration, number, wake_up

SLEEPS_US = [10, 30, 100, 300, 1e3, 3e3, 10e3, 30e3, 100e3, 300e3, 1e6]
OTHER, SAME, BUSY = "another CPU", "the same CPU", "another CPU, busy"


def measure(bench: Bench, place: str, sleep_us: float) -> Results:
    rounds = 0.1e6 if bench.quick else 0.4e6
    options = {"sleep": sleep_us * 1e3, "rounds": min(max(rounds / sleep_us, 5), 300)}
    if place == SAME:
        options["device"] = bench.cpus[0]
    return bench.run("wake", busy=place == BUSY, **options)


def typical_wake_up(bench: Bench) -> float:
    """Measure W for the claims that need one: on another CPU, after 100 us."""
    return statistics.median(measure(bench, OTHER, 100)["p50_us"] for _ in range(3))


def claim(bench: Bench) -> Section:
    sleeps = [us for us in SLEEPS_US if us <= 30e3] if bench.quick else SLEEPS_US
    places: dict[str, list[Results]] = {OTHER: [], SAME: [], BUSY: []}
    for sleep_us in sleeps:
        for place, results in places.items():
            results.append(measure(bench, place, sleep_us))
    medians = {
        place: {result["slept_us"]: result["p50_us"] for result in results}
        for place, results in places.items()
    }
    with plots.figure(bench.figures / "claim-1.png") as axes:
        for place, results in places.items():
            plots.line(axes, medians[place], place)
            slept = [result["slept_us"] for result in results]
            low, high = ([result[part] for result in results] for part in ("p10_us", "p90_us"))
            axes.fill_between(slept, low, high, alpha=0.15)
        plots.label(
            axes,
            "time asleep (us)",
            "kick to running (us)",
            title="A wake-up through an eventfd: median, and 10 to 90 %",
        )
    rows = [["asleep for", *places, "the kick itself, to another CPU"]]
    for index, sleep_us in enumerate(sleeps):
        cells = [number(results[index]["p50_us"]) for results in places.values()]
        kick = number(places[OTHER][index]["kick_us"])
        rows.append([duration(sleep_us), *(f"{cell} us" for cell in cells), f"{kick} us"])
    return Section(
        number=1,
        claim="A wake-up through an eventfd costs W microseconds",
        how=(
            "`bench/c/wake.c`. The device sleeps in `ppoll` as ringbell does, the driver kicks it, "
            "and the time counts from before the kick until the device runs. "
            f"{rounds_text(bench)} wake-ups a point, of long sleeps fewer, but at least 5. "
            "*Busy*: a process that computes all the time is pinned to the device's CPU, and the "
            "device has to be let in. On one CPU the driver sleeps too, so short sleeps are longer "
            "than was asked for; what is drawn is the time asleep that was measured."
        ),
        verdict=wake_up(*(medians[place] for place in (OTHER, SAME, BUSY))),
        figure="claim-1.png",
        tables=[rows],
    )


def rounds_text(bench: Bench) -> str:
    return "Up to 300" if not bench.quick else "Few"
