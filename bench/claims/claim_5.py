# SPDX-License-Identifier: MIT
"""Latency against rate with moderation."""

from __future__ import annotations

from claims import plots
from claims.programs import Bench, Results, in_turn, median
from claims.section import Section
from claims.verdicts import coalescing, number

WORK_NS = 1000
DELAYS_US = [0, 10, 50, 200]
# For the time to decide, and not the number.
MANY = 1 << 20


def claim(bench: Bench) -> Section:
    gaps = [1e6, 3e5, 1e5, 3e4, 1e4, 5e3, 3e3, 2e3, 1.5e3]
    if bench.quick:
        gaps = [1e6, 1e5, 1e4, 2e3]

    def measure(case: tuple[int, float]) -> Results:
        delay, gap = case
        # Long enough that some entries, and not the one that was disturbed, are above the p99.
        time = 5e7 if bench.quick else max(2e8, 700 * gap)
        moderation = {"moderation": MANY, "moderation_delay": delay * 1e3} if delay else {}
        return bench.run("stream", gap=gap, random=1, time=time, work=WORK_NS, **moderation)

    rounds = bench.rounds if bench.quick else 5
    runs = in_turn(rounds, [(delay, gap) for gap in gaps for delay in DELAYS_US], measure)
    p50, p99, cpu = (
        {delay: {1e9 / gap: median(runs[delay, gap], what) for gap in gaps} for delay in DELAYS_US}
        for what in ("p50_us", "p99_us", "cpu_us")
    )
    least, most = (
        {
            delay: {1e9 / gap: pick(run["p99_us"] for run in runs[delay, gap]) for gap in gaps}
            for delay in DELAYS_US
        }
        for pick in (min, max)
    )
    with plots.figure(bench.figures / "claim-5.png", columns=2) as axes:
        for column, (name, series) in enumerate((("p50", p50), ("p99", p99))):
            for delay in DELAYS_US:
                text = f"moderation {delay} us" if delay else "no moderation"
                plots.line(axes[0][column], series[delay], text)
                if name == "p99":
                    spread = sorted(least[delay])
                    low, high = ([side[delay][rate] for rate in spread] for side in (least, most))
                    axes[0][column].fill_between(spread, low, high, alpha=0.12)
            plots.label(axes[0][column], "requests/s", f"latency, {name} (us)", title=name)
    rows = [["requests/s"]]
    for delay in DELAYS_US:
        rows[0].append(f"{delay} us" if delay else "no moderation")
    for gap in gaps:
        rate = 1e9 / gap
        cells = [
            f"{number(p50[delay][rate])} / {number(p99[delay][rate])} "
            f"({number(least[delay][rate])} to {number(most[delay][rate])}) / "
            f"{number(cpu[delay][rate])}"
            for delay in DELAYS_US
        ]
        rows.append([number(rate), *cells])
    return Section(
        number=5,
        claim="Coalescing costs latency",
        how=(
            "`bench/c/stream.c`, as for claim 3: exponential times, 1 us of work, no polling, so "
            "about 1,000,000 a second is all the device can do. Latency counts from the time at "
            "which the entry was meant to be sent until the device has it. Moderation is bounded "
            "by its time only. "
            f"Median of {rounds} rounds in turn, two CPUs. In the table: p50 / p99 (of the best "
            "round to that of the worst) / CPU time of the device per request, in us; the last is "
            "what coalescing is for. The p99 is what others on the machine disturb most: the "
            "shaded bands are its spread over the rounds, and what lies within them is noise."
        ),
        verdict=coalescing(p50, least, most),
        figure="claim-5.png",
        tables=[rows],
    )
