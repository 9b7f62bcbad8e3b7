# SPDX-License-Identifier: MIT
"""Processes that fall asleep and wake each other, over and over."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from running import ROOT, Row, build, run

from ringbell.pinning import choose_pair

QUICK_SLEEPS = 2_000_000

# Ring size, messages, window, polling, first index: from one message up, with fragments, with
# indices that wrap. A share of the sleeps goes to each.
SOAKS = [
    (4, ["--ring", "4096", "--size", "200", "--window", "3", "--polling", "never"]),
    (0.5, ["--window", "9", "--polling", "never", "--coalesce", "5"]),
    (0.5, ["--window", "9", "--polling", "never", "--coalesce", "5", "--moderation", "3"]),
    (1, ["--ring", "4096", "--size", "4080", "--window", "2", "--polling", "never"]),
    (1, ["--ring", "4096", "--least", "2040", "--size", "4080", "--polling", "never"]),
    (1, ["--ring", "4096", "--size", "9000", "--window", "1", "--polling", "never"]),
    (1, ["--ring", "65536", "--size", "30", "--window", "50", "--polling", "never"]),
    (1, ["--size", "40", "--polling", "never", "--first", str(2**64 - 5)]),
    (1, ["--record", "64", "--ring", "4096", "--polling", "never"]),
    (0.5, ["--record", "8", "--ring", "4096", "--polling", "never", "--first", str(2**64 - 99)]),
    (0.5, ["--record", "64", "--polling", "never", "--coalesce", "50", "--moderation", "9"]),
    # A poll this short nearly always ends in vain. One of the usual length nearly never does.
    (1, ["--size", "200", "--window", "2", "--polling", "adaptive", "--max-poll", "1000"]),
    (0.05, ["--ring", "4096", "--size", "200", "--window", "2", "--polling", "adaptive"]),
    (0.02, ["--ring", "4096", "--size", "9000", "--window", "1", "--polling", "adaptive"]),
]

# The same over the public API, where everything but the sleep takes ten times as long.
PYTHON_SHARE = 0.07
PYTHON_SOAKS = [
    (3, ["--kind", "messages", "--size", "200", "--polling", "never"]),
    (2, ["--kind", "requests", "--size", "200", "--window", "5", "--polling", "never"]),
    (2, ["--kind", "messages", "--least", "2040", "--size", "4080", "--polling", "never"]),
    (1, ["--kind", "messages", "--size", "9000", "--polling", "never"]),
    (1, ["--kind", "requests", "--size", "9000", "--polling", "never"]),
    (1, ["--kind", "messages", "--ring", "65536", "--window", "50", "--polling", "never"]),
    (1, ["--kind", "requests", "--polling", "never", "--first", str(2**64 - 5)]),
    (2, ["--kind", "messages", "--polling", "adaptive", "--max-poll", "4e-6"]),
    (1, ["--kind", "requests", "--size", "9000", "--polling", "adaptive", "--max-poll", "4e-6"]),
    (0.1, ["--kind", "requests", "--polling", "adaptive"]),
]


def soak_numbers(output: str) -> dict[str, float]:
    line = output.strip().splitlines()[-1].split()
    numbers = {name: float(value) for name, value in zip(line[::2], line[1::2], strict=True)}
    return {name: int(n) if n == int(n) else n for name, n in numbers.items()}


def soak(
    name: str, command: list[str], soaks: list[tuple[float, list[str]]], total: int
) -> Iterator[Row]:
    cpus = choose_pair()
    pinning = ["--cpus", f"{cpus[0]},{cpus[1]}"] if cpus else []
    shares = sum(share for share, _ in soaks)
    sleeps, longest, long_waits = 0, 0.0, 0
    for seed, (share, arguments) in enumerate(soaks, 1):
        count = str(max(int(total * share / shares) + 1, 1000))
        output = run(
            [*command, "--sleeps", count, "--seed", str(seed), *arguments, *pinning], timeout=86400
        )
        numbers = soak_numbers(output)
        for line in output.strip().splitlines()[:-1]:
            print(line)
        sleeps += numbers["sleeps"]
        longest = max(longest, numbers["longest_ms"])
        long_waits += numbers["long_waits"]
        explored = f"{numbers['sleeps']:,} sleeps, {numbers['entries']:,} entries"
        named = " ".join(arguments).replace("--", "")
        result = soak_result(numbers["longest_ms"], numbers["long_waits"])
        yield Row(f"soak in {name}: {named}", explored, result, True)
    explored = f"{sleeps:,} sleeps"
    yield Row(
        f"soak in {name}: all of it", explored, soak_result(longest, long_waits), sleeps >= total
    )


def soak_result(longest_ms: float, long_waits: int) -> str:
    result = f"nothing lost; longest wait {longest_ms} ms"
    return result + (f", {long_waits} above 100 ms, for the reasons above" if long_waits else "")


PUBLISHING_SECONDS = 20
SLEEPS_A_SECOND = 20_000  # of the long soak: so long readers come and go beside it


def soak_of_readers(seconds: int) -> Iterator[Row]:
    """Readers of publications that join and are killed, stopped and closed at random."""
    command = [sys.executable, str(ROOT / "tests/soak_publishing.py"), "--seconds", str(seconds)]
    *lines, whole = run(command, timeout=86400).strip().splitlines()
    for line in lines:
        name, _, counted = line.partition(": ")
        words = counted.split()
        done = dict(zip(words[::2], words[1::2], strict=True))
        explored = f"{int(done['started'])} readers, {int(done['got']):,} entries"
        yield Row(f"soak of readers: {name}", explored, "each entry counted, none torn", True)
    yield Row("soak of readers: all of it", f"{seconds} s", f"nothing lost; {whole}", True)


def check_soak(folder: Path, total: int) -> Iterator[Row]:
    in_python = int(total * PYTHON_SHARE)
    yield from soak("C", [build(folder, "stress", "stress.c", "-O2")], SOAKS, total - in_python)
    python = [sys.executable, str(ROOT / "tests/soak.py")]
    yield from soak("Python", python, PYTHON_SOAKS, in_python)
    quick = total <= QUICK_SLEEPS
    yield from soak_of_readers(PUBLISHING_SECONDS if quick else max(600, total // SLEEPS_A_SECOND))
