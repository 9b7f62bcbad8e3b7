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
    affinity = os.sched_getaffinity(0)
    path = str(folder / f"{polling}-{cpus[0]}-{cpus[1]}.sock")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=answer, args=(path, cpus[1], polling), daemon=True)
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
    """Measure requests of 64 bytes a second with so many in flight, and kicks for each."""
    clock = time.perf_counter

    def payloads(until: float) -> Iterator[bytes]:
        while clock() < until:
            yield MESSAGE

    kicks, requests = _kicks(driver)
    rate = _rate(seconds, lambda until: sum(1 for _ in driver.map(payloads(until), depth=depth)))
    kicks_after, requests_after = _kicks(driver)
    return {"rate": rate, "kicks": (kicks_after - kicks) / (requests_after - requests)}


def _kicks(driver: ringbell.Driver) -> tuple[int, int]:
    """Count the kicks of both sides, and the requests, up to now."""
    stats = driver.stats()
    requests = stats.driver.producer
    return requests.kicks_sent + stats.device.producer.kicks_sent, requests.entries


def _call(driver: ringbell.Driver, until: float) -> bool:
    driver.call(MESSAGE)
    return time.perf_counter() < until


def _rate(seconds: float, work: Callable[[float], int]) -> float:
    began = time.perf_counter()
    done = work(began + seconds)
    return done / (time.perf_counter() - began)
