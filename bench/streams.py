# SPDX-License-Identifier: MIT
"""The figures of one-way streams, as ratios against a named peer in one run.

    python bench/streams.py [--rounds 5] [--json]

Producer and consumer are two Python processes, pinned to a CPU each. What is compared is measured
in turn (ours, theirs, ours, theirs, ...), and what is printed are medians over the rounds; a ratio
is the median of the rounds' ratios.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from claims.programs import Bench
from machine import describe
from numpy.typing import NDArray
from table import Row, at_least, at_most, compare, show

import ringbell
from ringbell.pinning import choose_pair

BATCH = 1024
MANY = 64
SECONDS = 0.3  # for each measurement
LARGE = 4 << 20
LARGE_RING = 16 << 20
SIZES = (1 << 16, 1 << 18, 1 << 20, LARGE)
IDLE_SECONDS = 10.0
MAX_SHARE = 0.05
APART = 50e-6  # seconds
STEP = 20e-6
RATES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)

Job = Callable[..., object]


# ---- the consumer, in a process of its own ----


def consumer(path: str, cpu: int, jobs: Connection) -> None:
    """Do one job after the other, each with a stream of its own; send its result and the time."""
    while (job := jobs.recv()) is not None:
        (function, *arguments), options = job
        with ringbell.consume(path, cpu=cpu, **options) as stream:
            jobs.send((*function(stream, *arguments), time.monotonic()))


def borrow_all(stream: ringbell.RecordConsumer, most: int | None) -> tuple[int, int]:
    records = batches = 0
    try:
        while True:
            records += len(stream.borrow(most))
            batches += 1
    except ringbell.EndOfStream:
        return records, batches


def borrow_slowly(stream: ringbell.RecordConsumer, seconds: float) -> tuple[int, int]:
    """Borrow everything, and work for this time on each array, whatever its length."""
    records = batches = 0
    for rows in stream:
        over = time.monotonic() + seconds
        records += len(rows)
        batches += 1
        while time.monotonic() < over:
            pass
    return records, batches


def sum_all(stream: ringbell.RecordConsumer) -> tuple[int, int]:
    records = total = 0
    for rows in stream:
        total += int(rows.sum())
        records += len(rows)
    return records, total


def recv_all(stream: ringbell.MessageConsumer) -> tuple[int, int]:
    messages = 0
    try:
        while True:
            stream.recv()
            messages += 1
    except ringbell.EndOfStream:
        return messages, messages


def recv_many_all(stream: ringbell.MessageConsumer) -> tuple[int, int]:
    messages = lists = 0
    try:
        while True:
            messages += len(stream.recv_many(MANY))
            lists += 1
    except ringbell.EndOfStream:
        return messages, lists


def borrow_messages(stream: ringbell.MessageConsumer) -> tuple[int, int]:
    messages = size = 0
    for payload in stream:
        messages += 1
        size += len(payload)
    return messages, size


def be_idle(stream: ringbell.RecordConsumer, seconds: float) -> tuple[float, int]:
    """Wait in vain after some traffic; return the percentage of a CPU, and the number of sleeps."""
    read = 0
    while read < 1000:
        read += len(stream.borrow())
    before, sleeps = resource.getrusage(resource.RUSAGE_SELF), stream.stats().device.consumer.sleeps
    with suppress(ringbell.RingEmpty):
        stream.borrow(timeout=seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 100 * cpu / seconds, stream.stats().device.consumer.sleeps - sleeps


# ---- the producer, here ----


class Streams:
    """Runs a job in the other process while this one produces for it."""

    def __init__(self, path: str, cpu: int, jobs: Connection) -> None:
        self._path, self._cpu, self._jobs = path, cpu, jobs

    def run(
        self,
        job: tuple[object, ...],
        produce: Callable[[object], int],
        dtype: object = None,
        *,
        consume: dict[str, object] | None = None,
        **options: object,
    ) -> tuple[float, tuple[float, float]]:
        """Return the entries a second, from the first write to the last take, and the job's result.

        `consume` holds the options of consume; all others are options of produce.
        """
        self._jobs.send((job, consume or {}))
        with ringbell.produce(self._path, dtype, cpu=self._cpu, **options) as stream:
            begin = time.monotonic()
            sent = produce(stream)
        taken, said, end = self._jobs.recv()
        if isinstance(taken, int) and taken != sent:
            raise SystemExit(f"{sent} were sent and {taken} were taken")
        return sent / (end - begin), (taken, said)

    def rate(self, job: tuple[object, ...], produce: Callable[[object], int], **options) -> float:
        return self.run(job, produce, **options)[0]


def repeat(step: Callable[[Any], int | None], argument: Any, times: int = 1000) -> int:
    """Repeat the step; return the sum of what it returns, where None counts as one.

    Looks at the clock only now and then.
    """
    done, over = 0, time.monotonic() + SECONDS
    while time.monotonic() < over:
        for _ in range(times):
            done += step(argument) or 1
    return done


def records(streams: Streams, size: int) -> float:
    rows = np.zeros(BATCH, f"V{size}")
    return streams.rate((borrow_all, BATCH), lambda s: repeat(s.write, rows), dtype=rows.dtype)


def records_in_c(bench: Bench, size: int) -> float:
    return bench.run("records", size=size, batch=BATCH, time=SECONDS * 1e9)["rate"]


def summed(streams: Streams) -> float:
    rows = np.ones(BATCH, "u8")
    return streams.rate((sum_all,), lambda s: repeat(s.write, rows), dtype="u8")


def one_by_one(streams: Streams, size: int) -> float:
    payload = b"x" * size
    return streams.rate((recv_all,), lambda s: repeat(s.send, payload))


def many(streams: Streams) -> float:
    payloads = [b"x" * 64] * MANY
    return streams.rate((recv_many_all,), lambda s: repeat(s.send_many, payloads, 100))


def in_place(streams: Streams, size: int) -> float:
    """Give the microseconds for one message whose bytes nobody writes or reads."""

    def reserve(stream: ringbell.MessageProducer) -> None:
        with stream.reserve(size):
            pass

    job = (borrow_messages,)
    return 1e6 / streams.rate(job, lambda s: repeat(reserve, s, 100), ring_size=LARGE_RING)


def copied(streams: Streams) -> float:
    """Give the bytes a second of large payloads that are copied in and copied out."""
    payload = np.ones(LARGE, "u1").tobytes()
    rate = streams.rate((recv_all,), lambda s: repeat(s.send, payload, 5), ring_size=LARGE_RING)
    return rate * LARGE


def memcpy() -> float:
    """Give the bytes a second that this CPU copies between two buffers of that size."""
    source, target = np.ones(LARGE, "u1"), np.zeros(LARGE, "u1")

    def copy(from_where: NDArray[Any]) -> None:
        target[:] = from_where

    begin = time.monotonic()
    return repeat(copy, source, 5) * LARGE / (time.monotonic() - begin)


def burst_kicks(streams: Streams) -> float:
    """Count the kicks for 1,000 writes that are held back, to a consumer that sleeps."""
    kicks = 0

    def produce(stream: ringbell.RecordProducer) -> int:
        nonlocal kicks
        while not stream.stats().device.consumer.sleeps:
            time.sleep(0.001)
        with stream.coalesce():
            for i in range(1000):
                stream.write([i])
        kicks = stream.stats().driver.producer.kicks_sent
        return 1000

    streams.run((borrow_all, None), produce, dtype="u8")
    return float(kicks)


def idle_share(streams: Streams, seconds: float) -> float:
    def produce(stream: ringbell.RecordProducer) -> int:
        for i in range(1000):
            stream.write([i])
        time.sleep(seconds + 0.5)
        return 1000

    return streams.run((be_idle, seconds), produce, dtype="u8")[1][0]


def poll(stream: ringbell.RecordConsumer) -> tuple[int, float]:
    """Borrow everything; say what percentage of the time went into polling."""
    begin = time.monotonic()
    records = sum(map(len, stream))
    polled = stream.stats().device.consumer.polling.time_ns / 1e9
    return records, 100 * polled / (time.monotonic() - begin)


def polled_share(streams: Streams, max_share: float) -> float:
    """Write a record every 50 us; without a limit, adaptive polling would poll all the time."""

    def produce(stream: ringbell.RecordProducer) -> int:
        done, begin = 0, time.monotonic()
        while (now := time.monotonic() - begin) < 3 * SECONDS:
            if done < now / APART:
                done += stream.write([0])
        return done

    return streams.run((poll,), produce, "u8", consume={"max_share": max_share})[1][1]


def batch_length(streams: Streams, rate: float) -> float:
    """Give the mean length of a borrow at this rate of records, with steps of 20 us."""
    step = max(1, round(rate / 100_000))  # so that there are at most 100,000 writes a second
    rows = np.zeros(step, "u8")

    def produce(stream: ringbell.RecordProducer) -> int:
        done, begin = 0, time.monotonic()
        while (now := time.monotonic() - begin) < SECONDS:
            if done < now * rate:
                done += stream.write(rows)
        return done

    _, (taken, batches) = streams.run((borrow_slowly, STEP), produce, dtype="u8")
    return taken / max(batches, 1)


# ---- all rounds ----


@contextmanager
def other_process(cpus: tuple[int, int], folder: Path) -> Iterator[Streams]:
    context = multiprocessing.get_context("spawn")
    jobs, far_end = context.Pipe()
    path = str(folder / "stream")
    process = context.Process(target=consumer, args=(path, cpus[1], far_end), daemon=True)
    affinity = os.sched_getaffinity(0)
    process.start()
    try:
        yield Streams(path, cpus[0], jobs)
        jobs.send(None)
        process.join()
    finally:
        process.terminate()
        process.join()
        os.sched_setaffinity(0, affinity)


def measure(streams: Streams, bench: Bench, rounds: int) -> list[Row]:
    turns = range(rounds)
    eights = [(records(streams, 8), one_by_one(streams, 8)) for _ in turns]
    sums = [summed(streams) for _ in turns]
    sixty_fours = [(records(streams, 64), records_in_c(bench, 64)) for _ in turns]
    lists = [(many(streams), one_by_one(streams, 64)) for _ in turns]
    large = [(copied(streams), memcpy()) for _ in turns]
    rows = [
        at_least("records of 8 bytes, million/s", [ours / 1e6 for ours, _ in eights], 150),
        compare("the same against send and recv, /s", "send, recv", eights, 100),
        compare("records of 64 bytes, /s", "in C", sixty_fours, 0.6),
        compare("send_many, recv_many of 64 bytes, /s", "send, recv", lists, 2.5),
        compare("4 MiB copied in and out, bytes/s", "memcpy", large, 0.4),
    ]
    times = [{size: in_place(streams, size) for size in SIZES} for _ in turns]
    flat = [(of[SIZES[0]], of[LARGE]) for of in times]
    rows.append(compare("64 KiB reserved and borrowed, us", "4 MiB", flat, 0.5))
    rows.append(at_most("kicks for a deferred burst of 1,000", [burst_kicks(streams)], 1))
    idle = [idle_share(streams, IDLE_SECONDS)]
    rows.append(at_most(f"CPU of an idle consumer, % of {IDLE_SECONDS:.0f} s", idle, 0.1))
    shares = [polled_share(streams, MAX_SHARE) for _ in turns]
    what = f"polled, % of the time, max_share={MAX_SHARE:g}"
    rows.append(at_most(what, shares, 104 * MAX_SHARE))
    rows.append(Row("the same without a bound", polled_share(streams, 1)))
    rows.append(Row("records of 8 bytes summed by the consumer, /s", statistics.median(sums)))
    for size in SIZES:
        time_of = statistics.median(of[size] for of in times)
        rows.append(Row(f"{size >> 10} KiB reserved and borrowed, us", time_of))
    for rate in RATES:
        length = statistics.median(batch_length(streams, rate) for _ in turns)
        rows.append(Row(f"records in a borrow, {rate:,} written a second", length))
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 make a median")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("This benchmark needs two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        bench = Bench(Path(name), Path(name), cpus, quick=False)
        bench.build("records")
        with other_process(cpus, Path(name)) as streams:
            rows = measure(streams, bench, options.rounds)
    machine = f"{describe(cpus)}, {options.rounds} rounds"
    return show(rows, machine, options.json)


if __name__ == "__main__":
    sys.exit(main())
