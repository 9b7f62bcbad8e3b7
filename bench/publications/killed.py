# SPDX-License-Identifier: MIT
"""One of eight readers is killed in full flight: how long do the others get nothing?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import median

from table import Row, at_most

import ringbell
from publications.crew import Crew, Job, crew

READERS = 8
SECONDS = 0.8
END = (1 << 64) - 1
LONGEST = 100.0  # ms


def send(meet: Callable[[], None], folder: str, seconds: float) -> int:
    with ringbell.publish(f"{folder}/k", min_readers=READERS) as publisher:
        put, rest, number = publisher.send, bytes(56), 0
        meet()
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            for _ in range(100):
                put(number.to_bytes(8, "little") + rest)
                number += 1
        put(END.to_bytes(8, "little") + rest)
    return number


def take(meet: Callable[[], None], folder: str) -> tuple[int, float]:
    """Give how many came, in turn, and the longest time between two, in ms."""
    with ringbell.subscribe(f"{folder}/k") as subscriber:
        recv, clock, longest, number = subscriber.recv, time.perf_counter_ns, 0, 0
        meet()
        before = 0
        while (taken := int.from_bytes(recv()[:8], "little")) != END:
            if taken != number:
                raise ValueError(f"{taken} came, not {number}")
            number += 1
            now = clock()
            if before and now - before > longest:
                longest = now - before
            before = now
    return number, longest / 1e6


def run(workers: Crew, kill: bool, scale: float) -> tuple[int, float]:
    """Give how many entries others have lost, and their longest gap."""
    seconds = max(0.2, SECONDS * scale)
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        jobs: list[Job] = [(send, (folder, seconds)), *[(take, (folder,))] * READERS]
        sent, *taken = workers.run(jobs, (1, seconds / 2) if kill else None)
    others = [one for one in taken if one]
    return sum(sent - came for came, _ in others), max(gap for _, gap in others)


def rows(rounds: int, cpus: tuple[int, int], scale: float) -> Iterator[Row]:
    with crew([set(cpus)] * (READERS + 1)) as workers:
        run(workers, False, 0.1)  # all of them start
        both = [(run(workers, True, scale), run(workers, False, scale)) for _ in range(rounds)]
    killed, whole = ([gap for _, gap in runs] for runs in zip(*both, strict=True))
    lost = sum(lost for pair in both for lost, _ in pair)
    row = at_most(f"1 of {READERS} killed: longest gap of the others, ms", [max(killed)], LONGEST)
    yield row._replace(peer="none killed", theirs=max(whole), ratio=median(whole) / median(killed))
    yield at_most(f"1 of {READERS} killed: entries others lost", [lost], 0)
