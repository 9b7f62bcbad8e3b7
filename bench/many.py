# SPDX-License-Identifier: MIT
"""One thread that waits for many channels, against the same thread with one channel.

    python bench/many.py [--channels 1000] [--rounds 5] [--json]

Two device processes wait with a `ringbell.Waiter`: one has one channel, the other has a thousand
(or as many as the limit of descriptors lets), of which one is busy. Both are pinned to one CPU, the
drivers to the other. They are measured in turn; what is printed are medians over the rounds, and a
ratio is the median of the rounds' ratios. The memory is what only the device process has.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from machine import CpuTime, describe
from table import Row, at_most, below, compare, show

import ringbell
from ringbell.pinning import choose_pair

CALLS = 5_000
REQUESTS = 50_000
IDLE_SECONDS = 5.0
PAYLOAD = b"x" * 64
DESCRIPTORS = 3  # of a channel, on each side
SPARE = 100  # descriptors for the rest of the process


class Many(NamedTuple):
    """A device process with its channels, and the drivers of these."""

    process: BaseProcess
    drivers: list[ringbell.Driver]


def device(path: str, count: int, cpu: int) -> None:
    """Answer all drivers, until the last one has gone."""
    raise_the_limit()
    os.sched_setaffinity(0, {cpu})
    with ringbell.listen(path) as listener, ExitStack() as guard:
        members = [guard.enter_context(listener.accept()) for _ in range(count)]
        with ringbell.Waiter(members) as waiter:
            while len(waiter):
                for member in waiter.wait():
                    answer_all(waiter, member)


def answer_all(waiter: ringbell.Waiter[ringbell.Device], member: ringbell.Device) -> None:
    try:
        while True:
            member.take(timeout=0).complete(PAYLOAD)
    except ringbell.RingEmpty:
        pass
    except (ringbell.EndOfStream, ringbell.PeerLost):
        waiter.remove(member)


def raise_the_limit() -> int:
    """Return how many descriptors this process may have now."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def descriptors_of(pid: int | None) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def private_of(pid: int | None) -> int:
    """Give the memory that no other process has, in kB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def cpu_of(pid: int | None) -> float:
    """Give the seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def many(folder: str, count: int, cpu: int) -> Iterator[Many]:
    path = str(Path(folder) / f"{count}.sock")
    process = multiprocessing.get_context("spawn").Process(target=device, args=(path, count, cpu))
    process.start()
    try:
        with ExitStack() as guard:
            drivers = [guard.enter_context(ringbell.connect(path, wait=True)) for _ in range(count)]
            for driver in drivers:  # each is served once, so that all that it needs is there
                driver.call(PAYLOAD)
            yield Many(process, drivers)
        process.join(20)
    finally:
        process.terminate()
        process.join()


def call_time(driver: ringbell.Driver) -> float:
    """Give the median of a call, in microseconds."""
    times = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        driver.call(PAYLOAD)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1000


def map_rate(driver: ringbell.Driver) -> float:
    """Give the requests that `map` has answered in a second."""
    began = time.perf_counter()
    answers = sum(1 for _ in driver.map(PAYLOAD for _ in range(REQUESTS)))
    assert answers == REQUESTS
    return answers / (time.perf_counter() - began)


def idle_cpu(some: Many) -> float:
    """Give the share of a CPU that the device uses while nobody calls, in percent."""
    before = cpu_of(some.process.pid)
    time.sleep(IDLE_SECONDS)
    return (cpu_of(some.process.pid) - before) / IDLE_SECONDS * 100


def rows(channels: int, rounds: int, cpus: tuple[int, int]) -> Iterator[Row]:
    with (
        tempfile.TemporaryDirectory(prefix="rb-") as folder,
        many(folder, 1, cpus[1]) as one,
        many(folder, channels, cpus[1]) as all_of_them,
    ):
        more = channels - 1  # than the other process has
        pids = all_of_them.process.pid, one.process.pid
        descriptors, private = (
            (of(pids[0]) - of(pids[1])) / more for of in (descriptors_of, private_of)
        )
        busy = all_of_them.drivers[channels // 2]
        alone = one.drivers[0]
        calls = [(call_time(busy), call_time(alone)) for _ in range(rounds)]
        rates = [(map_rate(busy), map_rate(alone)) for _ in range(rounds)]
        name = f"one busy of {channels:,}"
        yield compare(f"call, {name}, p50, us", "alone", calls, 0.5, less_is_better=True)
        yield compare(f"map, {name}, requests/s", "alone", rates, 0.5)
        yield at_most("descriptors for each channel and side", [descriptors], DESCRIPTORS)
        yield below("private memory for each channel, kB", [private], 100)
        yield at_most(f"CPU of {channels:,} idle channels, %", [idle_cpu(all_of_them)], 0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--channels", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("this needs two CPUs", file=sys.stderr)
        return 2
    channels = max(2, min(options.channels, (raise_the_limit() - SPARE) // DESCRIPTORS))
    os.sched_setaffinity(0, {cpus[0]})
    before = CpuTime.now()
    found = list(rows(channels, options.rounds, cpus))
    used = CpuTime.now().since(before)
    state = f"others used {used.others / used.all:.0%} of all CPUs, {used.stolen:.1f} s were stolen"
    return show(found, f"{describe(cpus)}; {state}", options.json)


if __name__ == "__main__":
    raise SystemExit(main())
