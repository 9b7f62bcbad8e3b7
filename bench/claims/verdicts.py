# SPDX-License-Identifier: MIT
"""Judges each claim by what was measured. Nothing here measures or plots.

A verdict is decided by thresholds that stand in its function, and its text is made of the numbers.
Times are in microseconds and rates per second.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

HOLDS: Literal["holds"] = "holds"
IN_PART: Literal["holds in part"] = "holds in part"
REFUTED: Literal["refuted"] = "refuted"

Series = dict[float, float]
"""What was measured, by what was varied."""
Measured = dict[str, Series]


@dataclass(frozen=True)
class Verdict:
    word: Literal["holds", "holds in part", "refuted"]
    text: str
    title: str
    """What is the case, in one line."""


def number(value: float) -> str:
    """Write a number to be read: three digits that count."""
    if value == 0 or not math.isfinite(value):
        return str(value) if value else "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return (
        f"{rounded:,.{max(digits, 0)}f}".rstrip("0").rstrip(".")
        if digits > 0
        else f"{rounded:,.0f}"
    )


def duration(us: float) -> str:
    """Write a time in the unit in which one would say it."""
    if us < 1000:
        return f"{number(us)} us"
    return f"{number(us / 1e3)} ms" if us < 1e6 else f"{number(us / 1e6)} s"


def times(count: float) -> str:
    return "once" if count == 1 else f"{number(count)} times"


def all_some_none(checks: Iterable[bool]) -> Literal["holds", "holds in part", "refuted"]:
    checks = list(checks)
    if all(checks):
        return HOLDS
    return IN_PART if any(checks) else REFUTED


def wake_up(other: Series, same: Series, busy: Series) -> Verdict:
    """Judge whether a wake-up costs one number; each series is W by the time asleep."""

    def spread(times: Iterable[float]) -> float:
        times = list(times)
        return max(times) / min(times)

    everywhere = [*other.values(), *same.values(), *busy.values()]
    one_number = [spread(everywhere) <= 2, spread(other.values()) <= 2]
    word = all_some_none(one_number)
    ranges = [
        f"{name} {number(min(series.values()))} to {number(max(series.values()))} us"
        for name, series in (("on another CPU", other), ("on the same CPU", same))
    ]
    ranges.append(f"on a busy CPU {number(min(busy.values()))} to {number(max(busy.values()))} us")
    shortest, longest = min(other), max(other)
    text = (
        f"A wake-up costs {', '.join(ranges)} (medians). On another CPU it costs "
        f"{number(other[shortest])} us after {duration(shortest)} of sleep and "
        f"{number(other[longest])} us after {duration(longest)}, "
        f"{number(spread(other.values()))} times from least to most. "
    )
    if word == HOLDS:
        text += "So W is one number, within a factor of 2."
    elif word == IN_PART:
        text += "So W is one number for one place, within a factor of 2, but not for all of them."
    else:
        text += (
            "So there is no one number: how long the side has been asleep, and where, decides. "
            "What can be said is how large it is."
        )
    titles = {
        HOLDS: "A wake-up through an eventfd costs the same wherever and however long one sleeps",
        IN_PART: "A wake-up through an eventfd costs the same in one place, and not in all of them",
        REFUTED: "What a wake-up costs depends on how long the side was asleep, and where",
    }
    return Verdict(word, text, titles[word])


def why_slower(
    quick: str,
    slow: str,
    later: str,
    rates: Measured,
    kicks: Measured,
    slept: Measured,
) -> str:
    """Explain where the quicker program has the lower rate, by how the sides of both wait.

    A side that has found nothing looks once more before it sleeps. `later` is the quicker program
    with a pause before that last look. `kicks` is for each request, and `slept` for each look that
    found nothing.
    """
    depths = [
        depth for depth in sorted(rates[quick]) if rates[slow][depth] > 1.1 * rates[quick][depth]
    ]
    if not depths:
        return f" {slow} is not faster than {quick} at any depth."
    best = max(depths, key=lambda depth: rates[slow][depth] / rates[quick][depth])
    of_1000 = {name: number(1000 * kicks[name][best]) for name in kicks}
    text = (
        f" {slow} beats {quick} at depth {', '.join(f'{depth:,.0f}' for depth in depths)}, most at "
        f"{best:,.0f}, where it sends {of_1000[slow]} kicks for 1,000 requests and {quick} "
        f"{of_1000[quick]}. "
    )
    if kicks[quick][best] <= 2 * kicks[slow][best]:
        return text + "So it is not the kicks, and this run does not explain it."
    text += (
        f"Before its last look {slow} lets other threads run, so "
        f"{number(100 * slept[slow][best])} of 100 looks that found nothing end in a sleep, and "
        f"{number(100 * slept[quick][best])} in {quick}. {later} there sends {of_1000[later]}: "
    )
    if kicks[later][best] < kicks[quick][best] / 2:
        return text + "what arrives before that look needs no kick."
    return text + "that is not the reason, and this run does not explain it."


def rate_against_depth(series: Measured, wake_up_us: float) -> Verdict:
    """Judge whether 1/W limits the rate; each series is a rate by queue depth."""
    limit = 1e6 / wake_up_us
    texts = []
    for name, rates in series.items():
        best = max(rates, key=lambda depth: rates[depth])
        beyond = [depth for depth in sorted(rates) if rates[depth] > limit]
        text = (
            f"{name}: {number(rates[min(rates)])} requests/s at depth {min(rates):.0f}, "
            f"{number(rates[best])} at depth {best:,.0f}, {number(rates[best] / limit)} times 1/W"
        )
        text += f", and more than 1/W from depth {beyond[0]:,.0f} on" if beyond else ""
        texts.append(text)
    text = f"1/W is {number(limit)} a second here (W = {number(wake_up_us)} us). "
    word = all_some_none(max(rates.values()) > 2 * limit for rates in series.values())
    titles = {
        HOLDS: "The cost of a wake-up does not limit the rate, once several requests are in flight",
        IN_PART: "The cost of a wake-up limits the rate of some, whatever is in flight",
        REFUTED: "The cost of a wake-up limits the rate, whatever is in flight",
    }
    return Verdict(word, text + "; ".join(texts) + ".", titles[word])


def kicks_against_load(policies: dict[str, list[float]], always: str, compare: str) -> Verdict:
    """Judge whether kicks go away with load; kicks a request, from idle to saturation."""
    others = [name for name in policies if name != always]
    text = (
        "No entry was lost under any policy. Kicks per 1,000 requests, from idle to a ring that is "
        "always full: "
    )
    text += "; ".join(
        f"{name} {number(1000 * kicks[0])} to {number(1000 * kicks[-1])}"
        for name, kicks in policies.items()
    )
    # Where there are none, the next kick is chance.
    ratios = [
        (name, statistics.median(a / b for a, b in zip(kicks, policies[compare], strict=True) if b))
        for name, kicks in policies.items()
        if name not in (always, compare)
    ]
    text += f". Over all loads, against {compare}: " + ", ".join(
        f"{name} {number(ratio)} times as many" for name, ratio in ratios
    )
    word = all_some_none(policies[name][-1] < 0.01 for name in others)
    titles = {
        HOLDS: "The more there is to do, the fewer kicks are needed, down to none",
        IN_PART: "Under some policies kicks go away with the load, under others they do not",
        REFUTED: "Kicks do not go away with the load",
    }
    return Verdict(word, text + " (medians).", titles[word])


def one_wake_up(held: Series, free: Series) -> Verdict:
    """Judge whether kicks add up; each series is wake-ups by kicks in a row."""
    ones = [wakeups == 1 for wakeups in held.values()]
    most = max(held)
    text = (
        f"Held until the last kick was sent, the sleeper woke {times(held[most])} for "
        f"{number(most)} kicks, and the counter said how many there were. "
    )
    single = [kicks for kicks in sorted(free) if free[kicks] <= 1.05]
    last = max(free)
    text += f"Free to run on another CPU it woke {times(free[last])} for {number(last)}"
    if single:
        text += f", and once for up to {number(single[-1])}"
    text += ": kicks that come after it ran are not before it ran."
    word = all_some_none(ones)
    titles = {
        HOLDS: "Kicks that come before the sleeper runs are one wake-up, however many",
        IN_PART: "Kicks that come before the sleeper runs are mostly one wake-up",
        REFUTED: "Kicks that come before the sleeper runs are more than one wake-up",
    }
    return Verdict(word, text, titles[word])


def crossing(plain: Series, other: Series) -> float | None:
    """Find the rate from which on `other` is no longer above `plain`; None when there is none.

    Between two rates that were measured, by straight lines in a plot with logarithmic axes.
    """
    found: float | None = None
    after: tuple[float, float] | None = None
    for rate in sorted(set(plain) & set(other), reverse=True):
        above = math.log(other[rate] / plain[rate])
        if above > 0:
            if after is None:
                return None
            share = above / (above - after[1])
            return math.exp(math.log(rate) + share * (after[0] - math.log(rate)))
        found, after = rate, (math.log(rate), above)
    return found


def coalescing(
    p50: dict[float, Series], least: dict[float, Series], most: dict[float, Series]
) -> Verdict:
    """Judge whether moderation costs latency; by its delay, 0 for none, latency by rate.

    `least` and `most` are the p99 of the best and the worst round: it is noisy, so two lines of it
    cross only where all rounds of one are below all rounds of the other.
    """
    plain = p50[0]
    idle = min(plain)
    delays = sorted(delay for delay in p50 if delay)
    costs = [p50[delay][idle] - plain[idle] for delay in delays]
    text = (
        f"At {number(idle)} requests/s the median latency is {number(plain[idle])} us without "
        "moderation, and "
        + ", ".join(
            f"{number(cost)} us more with {number(delay)} us"
            for delay, cost in zip(delays, costs, strict=True)
        )
        + ". "
    )
    free = True
    for name, without, moderated in (("p50", p50[0], p50), ("p99", least[0], most)):
        crossings = {delay: crossing(without, moderated[delay]) for delay in delays}
        cross = {delay: rate for delay, rate in crossings.items() if rate is not None}
        free = free and not cross
        beyond = " by more than the spread of the rounds" if name == "p99" else ""
        if cross:
            text += f"Lines of {name} cross that of no moderation, and stay below it{beyond}, at "
            text += ", ".join(
                f"{number(rate)}/s ({number(delay)} us)" for delay, rate in cross.items()
            )
            text += ". "
        else:
            text += f"No line of {name} crosses that of no moderation{beyond}. "
    costly = all(cost >= delay / 2 for delay, cost in zip(delays, costs, strict=True))
    if not any(cost > 0 for cost in costs):
        return Verdict(REFUTED, text + "It costs no latency here.", "Coalescing costs no latency")
    if costly and free:
        title = "Coalescing costs latency at every rate"
        return Verdict(HOLDS, text + "It costs latency at every rate.", title)
    return Verdict(
        IN_PART,
        text + "It costs latency when there is little to do, and less or none beyond.",
        "Coalescing costs latency when there is little to do, and less or none beyond",
    )


@dataclass(frozen=True)
class Polling:
    """Of one way to poll, by the time between requests in microseconds."""

    latency: Series
    cpu: Series
    """CPU time of the consumer per request, in microseconds."""


def adaptive_polling(
    regular: dict[str, Polling],
    irregular: dict[str, Polling],
    one_cpu: dict[str, float],
    bound_us: float,
) -> Verdict:
    """Judge adaptive polling; by "never", "adaptive" and "always", and p50 on one CPU by those."""
    never, adaptive, always = (regular[name].latency for name in ("never", "adaptive", "always"))
    removed = {
        gap: (never[gap] - adaptive[gap]) / (never[gap] - always[gap])
        for gap in sorted(never)
        if never[gap] > 2 * always[gap]
    }
    within = {gap: share for gap, share in removed.items() if gap <= bound_us / 2}
    removes = bool(within) and all(share >= 0.8 for share in within.values())
    text = "No wake-up to be removed was seen: polling always was not twice as fast as none. "
    if within:
        text = (
            f"Regular traffic up to {duration(max(within))} apart: it removes at least "
            f"{number(max(100 * min(within.values()), 0))} % of what a wake-up adds to the median "
            "latency"
        )
        beyond = [gap for gap, share in removed.items() if share >= 0.8]
        text += f" (80 % up to {duration(max(beyond))} apart). " if beyond else ". "
    extra = {
        gap: irregular["adaptive"].cpu[gap] - irregular["never"].cpu[gap]
        for gap in sorted(irregular["never"].cpu)
    }
    worst = max(extra, key=lambda gap: extra[gap])
    bounded = extra[worst] <= 1.1 * bound_us
    slower = {
        gap: irregular["adaptive"].latency[gap] / irregular["never"].latency[gap] for gap in extra
    }
    slowest = max(slower, key=lambda gap: slower[gap])
    text += (
        f"Irregular traffic: at most {number(max(extra[worst], 0))} us of CPU time a request more "
        f"than without polling (at {duration(worst)} apart; the bound is {number(bound_us)} us), "
        f"and a median latency of at most {number(slower[slowest])} times that without. "
    )
    delay = one_cpu["adaptive"] - one_cpu["never"]
    # A request and its answer are two waits.
    patient = delay <= 2.2 * bound_us
    text += (
        f"With both sides on one CPU, where polling keeps the other from running, a call takes "
        f"{duration(one_cpu['adaptive'])} with it, {duration(one_cpu['never'])} without, and "
        f"{duration(one_cpu['always'])} when both poll always."
    )
    word = all_some_none([removes, bounded and slower[slowest] <= 1.5 and patient])
    but = "costs more than its bound" if removes else "does not remove the wake-ups"
    titles = {
        HOLDS: "Adaptive polling removes the wake-ups of regular traffic, and keeps to its bound",
        IN_PART: f"Adaptive polling does a part of what it promises: it {but}",
        REFUTED: "Adaptive polling does not remove the wake-ups, and costs more than its bound",
    }
    return Verdict(word, text, titles[word])


def padding(padded: dict[str, list[float]], bare: dict[str, list[float]]) -> Verdict:
    """Judge the padding; rates of rounds in turn, by the way in which entries are sent."""
    ratios = {
        name: statistics.median(a / b for a, b in zip(padded[name], bare[name], strict=True))
        for name in padded
    }
    text = "With the padding: " + ", ".join(
        f"{number(ratio)} times the rate {name}" for name, ratio in ratios.items()
    )
    gains = [name for name, ratio in ratios.items() if ratio >= 1.1]
    others = " and ".join(name for name in ratios if name not in gains)
    word = all_some_none(name in gains for name in ratios)
    titles = {
        HOLDS: "Padding between `dwi` and `dri` makes a ring faster",
        IN_PART: f"Padding makes a ring faster {' and '.join(gains)}, and not {others}",
        REFUTED: "Padding between `dwi` and `dri` makes no ring faster",
    }
    return Verdict(word, text + ".", titles[word])


def two_cpus(one: dict[str, Series], two: dict[str, Series]) -> Verdict:
    """Judge whether two CPUs are faster; by the way of exchange, rates by work per request."""
    texts, wins, always, never = [], [], [], []
    for name in two:
        ratios = {work: two[name][work] / one[name][work] for work in sorted(two[name])}
        wins += [ratio > 1 for ratio in ratios.values()]
        always += [name] if min(ratios.values()) > 1 else []
        never += [name] if max(ratios.values()) <= 1 else []
        least, most = min(ratios), max(ratios)
        faster = [number(work) for work, ratio in ratios.items() if ratio > 1]
        text = (
            f"{name}: {number(ratios[least])} with {number(least)} us of work on each side, "
            f"{number(ratios[most])} with {number(most)} us, "
        )
        text += f"faster with {', '.join(faster)} us" if faster else "never faster"
        texts.append(text)
    text = "The rate on two CPUs over that on one: "
    word = all_some_none(wins)
    found = [f"faster {' and '.join(always)}"] if always else []
    found += [f"slower {' and '.join(never)}"] if never else []
    titles = {
        HOLDS: "Two CPUs are faster than one",
        IN_PART: f"Two CPUs are {', and '.join(found) or 'faster than one for some work'}",
        REFUTED: "Two CPUs are not faster than one",
    }
    return Verdict(word, text + "; ".join(texts) + ".", titles[word])
