# SPDX-License-Identifier: MIT
"""A driver here and a device in another process, both in Python."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ratios import MESSAGE, connect_when_there

import ringbell
from ringbell.policy import Polling

_PR_SET_PDEATHSIG = 1


def answer(path: str, cpu: int, polling: Polling) -> None:
    # Or it would serve for ever when the benchmark is killed.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    ringbell.serve(path, bytes, cpu=cpu, polling=polling)


@contextmanager
def python_driver(
    folder: Path, cpus: tuple[int, int], polling: Polling
) -> Iterator[ringbell.Driver]:
    """Give a driver whose device answers with what it gets."""
    affinity = os.sched_getaffinity(0)
    path = str(folder / f"{polling}-{cpus[0]}-{cpus[1]}.sock")
    context = multiprocessing.get_context("spawn")
    arguments = (path, cpus[1], polling)
    process = context.Process(target=answer, args=arguments, daemon=True)
    process.start()
    try:
        with connect_when_there(path, cpus[0], polling=polling) as driver:
            yield driver
    finally:
        process.terminate()
        process.join()
        os.sched_setaffinity(0, affinity)


def call_rate(driver: ringbell.Driver, seconds: float) -> float:
    """Measure calls of 64 bytes a second, one after the other."""
    return _rate(seconds, lambda until: sum(1 for _ in iter(lambda: _call(driver, until), False)))


def map_rate(driver: ringbell.Driver, depth: int, seconds: float) -> dict[str, float]:
    """Measure requests of 64 bytes a second with so many in flight, and how both sides waited.

    `kicks` is for each request, `slept` for each look that found nothing.
    """
    clock = time.perf_counter

    def payloads(until: float) -> Iterator[bytes]:
        while clock() < until:
            yield MESSAGE

    before = _Counts.of(driver)
    rate = _rate(seconds, lambda until: sum(1 for _ in driver.map(payloads(until), depth=depth)))
    after = _Counts.of(driver)
    empty = after.empty - before.empty
    return {
        "rate": rate,
        "kicks": (after.kicks - before.kicks) / (after.requests - before.requests),
        "slept": (after.sleeps - before.sleeps) / empty if empty else 0,
    }


@dataclass(frozen=True)
class _Counts:
    """Of both sides, up to now."""

    requests: int
    kicks: int
    sleeps: int
    empty: int
    """Looks that found nothing."""

    @classmethod
    def of(cls, driver: ringbell.Driver) -> _Counts:
        stats = driver.stats()
        sides = (stats.driver, stats.device)
        return cls(
            requests=stats.driver.producer.entries,
            kicks=sum(side.producer.kicks_sent for side in sides),
            sleeps=sum(side.consumer.sleeps for side in sides),
            empty=sum(side.consumer.times_empty for side in sides),
        )


def _call(driver: ringbell.Driver, until: float) -> bool:
    driver.call(MESSAGE)
    return time.perf_counter() < until


def _rate(seconds: float, work: Callable[[float], int]) -> float:
    began = time.perf_counter()
    done = work(began + seconds)
    return done / (time.perf_counter() - began)
