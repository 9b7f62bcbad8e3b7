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


@dataclass(frozen=True)
class Verdict:
    word: Literal["holds", "holds in part", "refuted"]
    text: str


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
    return Verdict(word, text)


def rate_against_depth(series: dict[str, Series], wake_up_us: float) -> Verdict:
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
    return Verdict(
        all_some_none(max(rates.values()) > 2 * limit for rates in series.values()),
        text + "; ".join(texts) + ".",
    )


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
    return Verdict(
        all_some_none(policies[name][-1] < 0.01 for name in others), text + " (medians)."
    )


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
    return Verdict(all_some_none(ones), text)


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


def coalescing(p50: dict[float, Series], p99: dict[float, Series]) -> Verdict:
    """Judge whether moderation costs latency; by its delay, 0 for none, latency by rate."""
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
    for name, series in (("p50", p50), ("p99", p99)):
        crossings = {delay: crossing(series[0], series[delay]) for delay in delays}
        cross = {delay: rate for delay, rate in crossings.items() if rate is not None}
        free = free and not cross
        if cross:
            text += f"Lines of {name} cross that of no moderation, and stay below it, at "
            text += ", ".join(
                f"{number(rate)}/s ({number(delay)} us)" for delay, rate in cross.items()
            )
            text += ". "
        else:
            text += f"No line of {name} crosses that of no moderation. "
    costly = all(cost >= delay / 2 for delay, cost in zip(delays, costs, strict=True))
    if not any(cost > 0 for cost in costs):
        return Verdict(REFUTED, text + "It costs no latency here.")
    if costly and free:
        return Verdict(HOLDS, text + "It costs latency at every rate.")
    return Verdict(
        IN_PART, text + "It costs latency when there is little to do, and less or none beyond."
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
    return Verdict(all_some_none([removes, bounded and slower[slowest] <= 1.5 and patient]), text)


def padding(padded: dict[str, list[float]], bare: dict[str, list[float]]) -> Verdict:
    """Judge the padding; rates of rounds in turn, by the way in which entries are sent."""
    ratios = {
        name: statistics.median(a / b for a, b in zip(padded[name], bare[name], strict=True))
        for name in padded
    }
    text = "With the padding: " + ", ".join(
        f"{number(ratio)} times the rate {name}" for name, ratio in ratios.items()
    )
    return Verdict(all_some_none(ratio >= 1.1 for ratio in ratios.values()), text + ".")


def two_cpus(one: dict[str, Series], two: dict[str, Series]) -> Verdict:
    """Judge whether two CPUs are faster; by the way of exchange, rates by work per request."""
    texts, wins = [], []
    for name in two:
        ratios = {work: two[name][work] / one[name][work] for work in sorted(two[name])}
        wins += [ratio > 1 for ratio in ratios.values()]
        least, most = min(ratios), max(ratios)
        faster = [number(work) for work, ratio in ratios.items() if ratio > 1]
        text = (
            f"{name}: {number(ratios[least])} with {number(least)} us of work on each side, "
            f"{number(ratios[most])} with {number(most)} us, "
        )
        text += f"faster with {', '.join(faster)} us" if faster else "never faster"
        texts.append(text)
    text = "The rate on two CPUs over that on one: "
    return Verdict(all_some_none(wins), text + "; ".join(texts) + ".")
