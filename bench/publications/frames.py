# SPDX-License-Identifier: MIT
"""Frames of a camera to readers that are slower than it: only the newest frame matters."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from table import Row, at_least, at_most

import ringbell
from publications.crew import Job, crew
from publications.paced import shared_words

SHAPE = (2160, 3840, 3)
PAGE = 4096
PAGES = 2160 * 3840 * 3 // PAGE
FRAME = [("bytes", "u1", SHAPE)]
RATE = 60
SECONDS = 4.0
PACE = 0.05  # seconds that a reader takes for a frame
RING = 128 << 20

Meet = Callable[[], None]


class Wrote(NamedTuple):
    longest: float
    """Seconds in `write`, which copies a frame."""
    copy: float
    """Seconds that a copy of a frame into private memory took, at most."""
    waits: int


class Took(NamedTuple):
    got: int
    missed: int
    overwritten: int
    torn: int
    older: int
    """By how many frames one was older than the newest of when it was asked for, at most."""
    late: int
    """The same for when it had been given: the writer went on meanwhile."""


def pages_of(frame: Any) -> Any:
    """Give a frame as a table of words, one row for each page."""
    return np.frombuffer(frame, "u8").reshape(-1, PAGE // 8)


def film(meet: Meet, folder: str, readers: int, count: int) -> Wrote:
    source = np.zeros(1, FRAME)
    other, pages = np.zeros_like(source), pages_of(source)
    longest = copy = 0.0
    options = {"keep": "newest", "min_readers": readers, "ring_size": RING}
    with shared_words(folder) as (words, _), ringbell.publish(f"{folder}/f", FRAME, **options) as p:
        meet()
        for number in range(8):  # of the ring: its memory is made at the first touch
            pages[:, ::73] = number
            p.write(source)
            words[0] = number + 1
        due = time.monotonic()
        for number in range(8, count):
            due += 1 / RATE
            pages[:, ::73] = number
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            p.write(source)
            longest = max(longest, time.monotonic() - began)
            words[0] = number + 1  # so many are complete
            if number % 10 == 0:
                began = time.monotonic()
                np.copyto(other, source)
                copy = max(copy, time.monotonic() - began)
        stats = p.stats().driver.producer
        return Wrote(longest, copy, stats.sleeps + stats.polling.found + stats.polling.missed)


def look(meet: Meet, folder: str, way: str) -> Took:
    """Take frames until the end, and check each one: every 73rd word of every page."""
    got = overwritten = torn = 0
    older = late = -1000
    with shared_words(folder) as (words, _), ringbell.subscribe(f"{folder}/f") as subscriber:
        meet()
        try:
            while True:
                complete = words[0]
                try:
                    count, numbers = take(subscriber, way)
                except ringbell.Overwritten:
                    overwritten += 1
                    continue
                got += count
                torn += len(numbers) != 1
                older = max(older, complete - 1 - min(numbers))
                late = max(late, words[0] - 1 - min(numbers))
                time.sleep(PACE)
        except ringbell.EndOfStream:
            return Took(got, subscriber.missed, overwritten, torn, older, late)


def take(subscriber: Any, way: str) -> tuple[int, set[int]]:
    """Take one frame, or all of those that are there; give how many, and what is in the last."""
    if way == "latest":
        return 1, markers(subscriber.latest())
    if way == "read":
        return 1, markers(subscriber.read(1))
    with subscriber.borrow() as rows:
        return len(rows), markers(rows[-1:])


def markers(frame: Any) -> set[int]:
    return set(np.unique(pages_of(frame)[:, ::73]).tolist())


def rows(cpus: tuple[int, int], scale: float) -> Iterator[Row]:
    count = max(30, int(SECONDS * scale * RATE))
    ways = ["latest", "borrow", "read"]
    with crew([set(cpus)] * 4) as workers, tempfile.TemporaryDirectory(prefix="rb-") as folder:
        shared_words.create(folder)
        jobs: list[Job] = [(film, (folder, len(ways), count))]
        jobs += [(look, (folder, way)) for way in ways]
        wrote, *took = workers.run(jobs)
    name = f"4K at {RATE}/s"
    yield at_most(f"{name}: waits of the writer", [wrote.waits], 0)
    yield Row(f"{name}: longest write, ms", wrote.longest * 1e3, "memcpy", wrote.copy * 1e3)
    for way, one in zip(ways, took, strict=True):
        yield at_least(f"{name}, {way}: frames taken", [one.got], 1)
        yield at_most(f"{name}, {way}: frames that were not whole", [one.torn], 0)
        off = abs(one.got + one.missed - count)
        yield at_most(f"{name}, {way}: taken + missed - written", [off], 0)
        if way != "read":  # which takes them in turn
            yield at_most(f"{name}, {way}: frames behind, when asked", [one.older], 0)
            yield Row(f"{name}, {way}: frames behind, when given", one.late)
        if way == "borrow":
            yield Row(f"{name}, {way}: loans overwritten", one.overwritten)
