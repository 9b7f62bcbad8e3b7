# SPDX-License-Identifier: MIT
"""`ringbell bench`: a small comparison with `multiprocessing.Pipe` on this machine."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from ringbell.calls.driver import Driver
from ringbell.launching.device import launch
from ringbell.launching.pipeline import run_pipeline
from ringbell.launching.progress import Progress
from ringbell.streams.messages import MessageConsumer, MessageProducer

if TYPE_CHECKING:
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

ROUNDS = 3
CALLS = 3_000
DEPTH = 128
REQUESTS = 50_000
MESSAGES = 150_000
RECORDS = 20_000_000
MESSAGE = b"x" * 64
Cpus = tuple[int, int] | None


@dataclass
class Figure:
    """One measurement, ours and theirs: medians of the rounds."""

    what: str
    ours: float
    theirs: float | None
    """Of Pipe; None when it has nothing of the kind."""
    ratio: float | None
    """How many times better ours is, the median of the rounds."""
    kicks: float
    """Kicks of both sides together, for 1,000 entries."""


# ---- what the other processes do ----


def echo(payload: memoryview) -> bytes:
    """Answer with the request."""
    return bytes(payload)


def send_messages(stream: MessageProducer) -> None:
    """Send the messages of one round."""
    for _ in range(MESSAGES):
        stream.send(MESSAGE)


def take_messages(stream: MessageConsumer) -> None:
    """Take them one by one."""
    for _ in range(MESSAGES):
        stream.recv()


def send_records(stream: RecordProducer) -> None:
    """Send the records of one round, as many at a time as a program would."""
    import numpy as np

    rows = np.arange(10_000, dtype="u8")
    for _ in range(RECORDS // len(rows)):
        stream.write(rows)


def take_records(stream: RecordConsumer) -> None:
    """Look at each array that comes."""
    for rows in stream:
        rows[-1]


def pipe_peer(connection: Connection, cpu: int | None) -> None:
    """Answer, or take what comes, as the first word says."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    while (word := connection.recv_bytes()) != b"stop":
        if word == b"take":
            for _ in range(MESSAGES):
                connection.recv_bytes()
            connection.send_bytes(b"taken")
        else:
            while payload := connection.recv_bytes():
                connection.send_bytes(payload)


# ---- the measurements ----


def _p50(call: Callable[[bytes], object]) -> float:
    times = []
    for _ in range(CALLS):
        begin = time.perf_counter_ns()
        call(MESSAGE)
        times.append(time.perf_counter_ns() - begin)
    return statistics.median(times) / 1e3


def _rate(count: int, work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return count / (time.perf_counter() - begin)


def _map(driver: Driver) -> None:
    for _ in driver.map(repeat(MESSAGE, REQUESTS), depth=DEPTH):
        pass


def _map_over(connection: Connection) -> None:
    """Keep as many in flight as `_map` does."""
    for _ in range(DEPTH):
        connection.send_bytes(MESSAGE)
    for _ in range(REQUESTS - DEPTH):
        connection.recv_bytes()
        connection.send_bytes(MESSAGE)
    for _ in range(DEPTH):
        connection.recv_bytes()


def _send_over(connection: Connection) -> None:
    for _ in range(MESSAGES):
        connection.send_bytes(MESSAGE)
    connection.recv_bytes()


def _exchange(connection: Connection) -> Callable[[bytes], bytes]:
    def call(payload: bytes) -> bytes:
        connection.send_bytes(payload)
        return connection.recv_bytes()

    return call


def _second(cpus: Cpus) -> int | None:
    return cpus[1] if cpus else None


@contextmanager
def _pipe(cpus: Cpus) -> Iterator[Connection]:
    mine, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=pipe_peer, args=(theirs, _second(cpus)), daemon=True)
    process.start()
    theirs.close()
    try:
        with mine:
            yield mine
            mine.send_bytes(b"stop")
    finally:
        process.join(10)
        process.kill()
        process.join()


def _stream(producer: str, consumer: str, dtype: str | None, cpus: Cpus) -> tuple[float, float]:
    """Run a stream once; give the entries a second, and the kicks for 1,000."""
    seen: list[Progress] = []
    run_pipeline(
        f"{__name__}:{producer}",
        f"{__name__}:{consumer}",
        cpus=cpus or (None, None),
        start_method="spawn",
        watch=seen.append,
        produced={"dtype": dtype, "ring_size": 1 << 20},
        consumed={},
        both={},
    )
    last = seen[-1]
    entries = last.stats.device.consumer.entries
    kicks = last.stats.driver.producer.kicks_sent + last.stats.device.consumer.kicks_sent
    return entries / max(last.seconds, 1e-9), 1000 * kicks / max(entries, 1)


def _kicks(driver: Driver) -> int:
    stats = driver.stats()
    return stats.driver.producer.kicks_sent + stats.device.producer.kicks_sent


def _requests(cpus: Cpus, tell: Callable[[str], object]) -> list[Figure]:
    calls, maps = [], []
    with launch(echo, cpu=_second(cpus)) as driver, _pipe(cpus) as pipe:
        if cpus:
            os.sched_setaffinity(0, {cpus[0]})
        pipe.send_bytes(b"echo")
        exchange = _exchange(pipe)
        for _ in range(ROUNDS):
            tell("a request and its answer")
            before = _kicks(driver)
            ours = _p50(driver.call)
            calls.append((ours, _p50(exchange), _kicks(driver) - before))
            tell(f"{DEPTH} requests in flight")
            before = _kicks(driver)
            rate = _rate(REQUESTS, lambda: _map(driver))
            maps.append((rate, _rate(REQUESTS, lambda: _map_over(pipe)), _kicks(driver) - before))
        pipe.send_bytes(b"")
    return [
        _figure("a request and its answer, us", calls, CALLS, less_is_better=True),
        _figure(f"requests/s, {DEPTH} in flight", maps, REQUESTS),
    ]


def _figure(
    what: str,
    rounds: list[tuple[float, float, int]],
    entries: int,
    less_is_better: bool = False,
) -> Figure:
    ours, theirs, kicks = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratios = [b / a if less_is_better else a / b for a, b, _ in rounds]
    return Figure(what, ours, theirs, statistics.median(ratios), 1000 * kicks / entries)


def _messages(cpus: Cpus, tell: Callable[[str], object]) -> Figure:
    ours, theirs = [], []
    with _pipe(cpus) as pipe:
        for _ in range(ROUNDS):
            tell("messages one way")
            ours.append(_stream("send_messages", "take_messages", None, cpus))
            pipe.send_bytes(b"take")
            theirs.append(_rate(MESSAGES, lambda: _send_over(pipe)))
    rate, kicks = (statistics.median(column) for column in zip(*ours, strict=True))
    ratio = statistics.median(a / b for (a, _), b in zip(ours, theirs, strict=True))
    return Figure("messages/s, one by one", rate, statistics.median(theirs), ratio, kicks)


def _records(cpus: Cpus, tell: Callable[[str], object]) -> Figure:
    tell("records of 8 bytes")
    rounds = [_stream("send_records", "take_records", "u8", cpus) for _ in range(ROUNDS)]
    rate, kicks = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Figure("records/s, 8 bytes each", rate, None, None, kicks)


def measure(cpus: Cpus, tell: Callable[[str], object]) -> list[Figure]:
    """Measure all of it, ours and Pipe in turn. `tell` gets what is measured now."""
    affinity = os.sched_getaffinity(0)
    try:
        figures = _requests(cpus, tell)
        figures.append(_messages(cpus, tell))
    finally:
        os.sched_setaffinity(0, affinity)
    figures.append(_records(cpus, tell))
    return figures


def as_json(cpus: Cpus, figures: list[Figure]) -> dict[str, object]:
    """Give all figures."""
    return {"cpus": cpus, "rounds": ROUNDS, "figures": [asdict(figure) for figure in figures]}


def table(figures: list[Figure]) -> list[str]:
    """Give the lines of the table, below 80 columns."""
    lines = [f"{'':30}{'ringbell':>14}{'Pipe':>12}{'times better':>14}{'kicks':>8}"]
    for figure in figures:
        theirs = "" if figure.theirs is None else _shown(figure.theirs)
        ratio = "" if figure.ratio is None else f"{figure.ratio:,.1f}"
        lines.append(
            f"{figure.what:30}{_shown(figure.ours):>14}{theirs:>12}{ratio:>14}{figure.kicks:>8,.1f}"
        )
    return lines


def _shown(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
