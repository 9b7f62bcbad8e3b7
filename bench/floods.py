# SPDX-License-Identifier: MIT
"""How long a driver that asks now and then waits, alone and beside drivers that flood the device.

    python bench/floods.py [--floods 16] [--calls 1000] [--json]

One `ringbell.serve` on one CPU answers all. All drivers are on the other CPU: the one that asks, a
call each millisecond, and the floods, each with 64 requests in flight all the time. So 17 processes
share that CPU, and mostly the one that asks waits for its turn there. To measure the device's turns
and not the kernel's, the one that asks runs before the others if the kernel lets it (SCHED_RR, for
which it has to be root), alone and beside the floods. The table has both. `--spread` lets the
floods run on both CPUs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


@contextmanager
def run_first(first: bool) -> Iterator[None]:
    """Have this process run before all others on its CPU."""
    if first:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        if first:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def may_run_first() -> bool:
    try:
        with run_first(True):
            return True
    except PermissionError:
        return False


def latencies(path: str, calls: int, first: bool) -> list[float]:
    """Call once each millisecond; give how long each call took, in microseconds."""
    times = []
    with ringbell.connect(path, wait=True) as driver, run_first(first):
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


def row(
    name: str, share: float, alone: list[list[float]], beside: list[list[float]], first: bool
) -> Row:
    pairs = [
        (percentile(b, share), percentile(a, share)) for a, b in zip(alone, beside, strict=True)
    ]
    ratio = statistics.median(b / a for b, a in pairs)
    target = first and name == "p99"
    return Row(
        f"a call each ms, {name}, us{', runs first' if first else ''}",
        statistics.median(b for b, _ in pairs),
        "alone",
        statistics.median(a for _, a in pairs),
        ratio,
        f"<= {LIMIT:g}" if target else None,
        ratio <= LIMIT if target else None,
    )


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
    kinds = [False, True] if may_run_first() else [False]
    alone: dict[bool, list[list[float]]] = {kind: [] for kind in kinds}
    beside: dict[bool, list[list[float]]] = {kind: [] for kind in kinds}
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
            for first in kinds:
                alone[first].append(latencies(path, options.calls, first))
            where = set(cpus) if options.spread else {cpus[0]}
            floods = [start(path, where, target=flood) for _ in range(options.floods)]
            time.sleep(1.0)  # until all of them flood
            for first in kinds:
                beside[first].append(latencies(path, options.calls, first))
            for process in floods:
                process.kill()
                process.join()
    rows = [
        row(name, share, alone[first], beside[first], first)
        for first in kinds
        for name, share in (("p50", 0.5), ("p99", 0.99))
    ]
    if True not in kinds:
        print("the one that asks may not run first here (no SCHED_RR)", file=sys.stderr)
    return show(rows, f"{describe(cpus)}, {options.floods} floods", options.json)


if __name__ == "__main__":
    sys.exit(main())
