# SPDX-License-Identifier: MIT
"""Kicks per request against load, for five ways to decide on a kick."""

from __future__ import annotations

import itertools

from claims import plots
from claims.programs import Bench, Results, in_turn, median
from claims.section import Section
from claims.verdicts import kicks_against_load, number

WORK_NS = 1000
ALWAYS, COMPARE = "kick always", "`dwi == dri`"
POLICIES = {
    ALWAYS: {"always_kick": 1},
    COMPARE: {"compare": 1},
    "event index": {},
    "event index, deferred": {"defer": 32, "defer_delay": 50e3},
    "event index, moderation": {"moderation": 32, "moderation_delay": 50e3},
}
FULL = 0.0


def gaps(bench: Bench) -> list[float]:
    """Give nanoseconds between entries; the last one is as fast as the ring takes them."""
    if bench.quick:
        return [1e6, 1e5, 1e4, 2e3, FULL]
    return [1e6, 3e5, 1e5, 3e4, 1e4, 5e3, 3e3, 2e3, 1.5e3, 1.2e3, FULL]


def claim(bench: Bench) -> Section:
    def measure(case: tuple[str, float]) -> Results:
        policy, gap = case
        time = 5e7 if bench.quick else 1.5e8
        return bench.run("stream", gap=gap, random=1, time=time, work=WORK_NS, **POLICIES[policy])

    cases = [(policy, gap) for gap in gaps(bench) for policy in POLICIES]
    runs = in_turn(bench.rounds, cases, measure)
    for result in itertools.chain(*runs.values()):
        result["per_request"] = (result["kicks"] + result["timers"]) / result["entries"]
    rates, kicks = (
        {policy: [median(runs[policy, gap], what) for gap in gaps(bench)] for policy in POLICIES}
        for what in ("rate", "per_request")
    )
    with plots.figure(bench.figures / "claim-3.png") as axes:
        for policy in POLICIES:
            axes.plot(rates[policy], kicks[policy], label=policy.replace("`", ""))
        plots.label(
            axes,
            "requests/s",
            "kicks per request",
            title="Kicks per request, from idle to saturation; the device works 1 us on each",
        )
    rows = [["requests/s wanted", *POLICIES, "asleep, event index"]]
    for gap in gaps(bench):
        wanted = f"{number(1e9 / gap)}" if gap else "as many as possible"
        cells = [number(1000 * median(runs[policy, gap], "per_request")) for policy in POLICIES]
        plain = runs["event index", gap]
        sleeps = number(1000 * median(plain, "sleeps") / median(plain, "entries"))
        rows.append([wanted, *cells, sleeps])
    return Section(
        number=3,
        claim="A kick is needed only when the ring was empty",
        how=(
            "`bench/c/stream.c`. One way, entries of 48 bytes at exponential times, so they come "
            "in bunches; the device works 1 us on each, so about 1,000,000 a second is all it can "
            "do; no polling. *Kick always* is a system call for every entry. *`dwi == dri`* is the "
            "first sketch: the driver looks at the read index after its entry and kicks when the "
            "ring was empty before. *Event index* is what ringbell does. *Deferred* is "
            "`coalesce(max_delay=50e-6)` with a kick at the latest after 32 entries; *moderation* "
            "is `Moderation(entries=32, delay=50e-6)`. A timer that was set counts as a kick: it "
            "is a system call and a wake-up as well. The program ends with an error if an entry "
            f"is lost or a sleep does not end. Median of {bench.rounds} rounds in turn, two CPUs. "
            "The table is in kicks per 1,000 requests; its last column in sleeps of the device."
        ),
        verdict=kicks_against_load(kicks, ALWAYS, COMPARE),
        figure="claim-3.png",
        tables=[rows],
    )
