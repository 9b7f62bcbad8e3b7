# SPDX-License-Identifier: MIT
"""How long a driver that asks now and then waits, alone and beside drivers that flood the device.

    python bench/floods.py [--floods 16] [--calls 1000] [--json]

One `ringbell.serve` on one CPU answers all. All drivers are on the other CPU: the one that asks, a
call each millisecond, and the floods, each with 64 requests in flight all the time. So what is
measured is the device's turns, and the kernel's turns on that CPU. `--spread` lets the floods run
on both CPUs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import repeat
from multiprocessing.process import BaseProcess
from pathlib import Path

from machine import describe
from table import Row, show

import ringbell
from ringbell.pinning import choose_pair

DEPTH = 64
PAUSE = 1e-3
LIMIT = 10.0


def device(path: str, cpu: int) -> None:
    ringbell.serve(path, bytes, cpu=cpu)


def flood(path: str, cpus: set[int]) -> None:
    os.sched_setaffinity(0, cpus)
    with ringbell.connect(path, wait=True, ring_size=1 << 16) as driver:
        for _ in driver.map(repeat(b"x" * 64), depth=DEPTH):
            pass


def latencies(path: str, calls: int) -> list[float]:
    """Call once each millisecond; give how long each call took, in microseconds."""
    times = []
    with ringbell.connect(path, wait=True) as driver:
        for _ in range(100):
            driver.call(b"x" * 64)
        for _ in range(calls):
            time.sleep(PAUSE)
            begin = time.perf_counter_ns()
            driver.call(b"x" * 64)
            times.append((time.perf_counter_ns() - begin) / 1e3)
    return sorted(times)


def percentile(times: list[float], share: float) -> float:
    return times[min(int(len(times) * share), len(times) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--floods", type=int, default=16)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spread", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("this needs two CPUs", file=sys.stderr)
        return 1
    spawn = multiprocessing.get_context("spawn")
    alone, beside = [], []
    with tempfile.TemporaryDirectory(prefix="rb-") as folder, ExitStack() as guard:
        path = str(Path(folder) / "f.sock")

        def start(*arguments: object, target: object) -> BaseProcess:
            process = spawn.Process(target=target, args=arguments, daemon=True)
            process.start()
            guard.callback(process.join)
            guard.callback(process.kill)
            return process

        start(path, cpus[1], target=device)
        os.sched_setaffinity(0, {cpus[0]})
        for _ in range(options.rounds):
            alone.append(latencies(path, options.calls))
            where = set(cpus) if options.spread else {cpus[0]}
            floods = [start(path, where, target=flood) for _ in range(options.floods)]
            time.sleep(1.0)  # until all of them flood
            beside.append(latencies(path, options.calls))
            for process in floods:
                process.kill()
                process.join()
    rows = []
    for name, share, target in (("p50", 0.5, None), ("p99", 0.99, LIMIT)):
        mine = statistics.median(percentile(times, share) for times in alone)
        theirs = statistics.median(percentile(times, share) for times in beside)
        ratio = statistics.median(
            percentile(b, share) / percentile(a, share) for a, b in zip(alone, beside, strict=True)
        )
        rows.append(
            Row(
                f"a call each ms, {name}, us, beside {options.floods} floods",
                theirs,
                "alone",
                mine,
                ratio,
                None if target is None else f"<= {target:g}",
                None if target is None else ratio <= target,
            )
        )
    return show(rows, describe(cpus), options.json)


if __name__ == "__main__":
    sys.exit(main())
