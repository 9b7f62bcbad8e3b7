# SPDX-License-Identifier: MIT
"""How many wake-ups many kicks are."""

from __future__ import annotations

from claims import plots
from claims.programs import Bench
from claims.section import Section
from claims.verdicts import number, one_wake_up

COUNTS = [1, 2, 5, 10, 20, 50, 100, 1000, 10000]


def claim(bench: Bench) -> Section:
    rounds = 5 if bench.quick else 20
    held, free = (
        {kicks: bench.run("counter", kicks=kicks, rounds=rounds, held=hold) for kicks in COUNTS}
        for hold in (1, 0)
    )
    wakeups = [
        {kicks: result["wakeups"] for kicks, result in results.items()} for results in (held, free)
    ]
    with plots.figure(bench.figures / "claim-4.png") as axes:
        for series, name in zip(
            wakeups, ("held until the last kick", "free to run on another CPU"), strict=True
        ):
            plots.line(axes, series, name)
        plots.label(
            axes, "kicks in a row", "wake-ups", title="Wake-ups of the sleeper for N kicks in a row"
        )
    rows = [["kicks", "wake-ups, held", "at most", "wake-ups, free", "at most"]]
    rows += [
        [f"{kicks:,}"]
        + [number(result[kicks][part]) for result in (held, free) for part in ("wakeups", "most")]
        for kicks in COUNTS
    ]
    return Section(
        number=4,
        claim="An eventfd is a counter: N kicks before the sleeper runs are one wake-up",
        how=(
            f"`bench/c/counter.c`. {rounds} times N kicks in a row; the sleeper counts how often "
            "it wakes up and adds up what it reads; the program does not end before that is the "
            "number of kicks. *Held*: stopped with SIGSTOP until the last kick was sent, so "
            "that it cannot run before. *Free*: on another CPU, so it runs W later. Mean "
            "and maximum."
        ),
        verdict=one_wake_up(*wakeups),
        figure="claim-4.png",
        tables=[rows],
    )
