# SPDX-License-Identifier: MIT
"""The same ring with and without the padding between its words."""

from __future__ import annotations

import statistics

from claims import plots
from claims.programs import Bench, in_turn
from claims.section import Section
from claims.verdicts import number, padding

WAYS = {"one by one": 1, "in batches of 64": 64}
PADDED, BARE = "line-padded", "line-bare"


def claim(bench: Bench) -> Section:
    time = 5e7 if bench.quick else 2e8
    cases = [(way, program) for way in WAYS for program in (PADDED, BARE)]
    runs = in_turn(
        3 if bench.quick else 7,
        cases,
        lambda case: bench.run(case[1], batch=WAYS[case[0]], time=time)["rate"],
    )
    padded, bare = ({way: runs[way, program] for way in WAYS} for program in (PADDED, BARE))
    with plots.figure(bench.figures / "claim-7.png") as axes:
        for offset, (name, rates) in enumerate((("padding", padded), ("no padding", bare))):
            places = [place + 0.35 * offset for place in range(len(WAYS))]
            heights = [statistics.median(values) / 1e6 for values in rates.values()]
            spread = [
                [
                    height - min(values) / 1e6
                    for height, values in zip(heights, rates.values(), strict=True)
                ],
                [
                    max(values) / 1e6 - height
                    for height, values in zip(heights, rates.values(), strict=True)
                ],
            ]
            axes.bar(places, heights, 0.32, yerr=spread, capsize=3, label=name)
        axes.set_xticks([place + 0.175 for place in range(len(WAYS))], list(WAYS))
        plots.label(
            axes,
            "",
            "million entries/s",
            log="",
            title="One control block for both sides: median of the rounds, least and most",
        )
    rows = [["entries", "padding, /s", "no padding, /s", "ratio"]]
    for way in WAYS:
        ratio = statistics.median(a / b for a, b in zip(padded[way], bare[way], strict=True))
        medians = [number(statistics.median(rates[way])) for rates in (padded, bare)]
        rows.append([way, *medians, number(ratio)])
    return Section(
        number=7,
        claim="`dwi` and `dri` must not share a cache line",
        how=(
            "`bench/c/line.c`, built with `RB_LINE` 128 and with 8, which takes the padding out. "
            "In a real channel each side has its own page of control words, so these two are apart "
            "anyway; here both sides use one block, so that nothing but the padding differs. "
            "Without it the sides also share lines for the events and counters, as any block "
            "without padding would. Entries of 48 bytes, one way, both sides poll always, two "
            f"CPUs, median of {3 if bench.quick else 7} rounds in turn."
        ),
        verdict=padding(padded, bare),
        figure="claim-7.png",
        tables=[rows],
    )
