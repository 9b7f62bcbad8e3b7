# SPDX-License-Identifier: MIT
"""An entry now and then: what a reader that waits for it costs, and how late it is."""

from __future__ import annotations

import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from table import Row, below, compare

import ringbell
from publications.crew import Crew, Job, crew

BUSY = 1.0  # seconds that a reader spins before it sleeps
NAP = 0.1
SHARES = {1: 5.0, 10: 0.5}  # for each pace in ms, the most of a CPU in percent
SECONDS = {1: 1.0, 10: 2.0}
LATER, CHEAPER = 1 / 1.5, 20.0

Meet = Callable[[], None]


class Waited(NamedTuple):
    share: float
    """Of a CPU that a reader took, in percent."""
    late: float
    """Microseconds from the send to the reader's return: the median."""


# ---- the readers ----


def watch(meet: Meet, next_stamp: Callable[[], int], count: int) -> Waited:
    """Take all stamps; what came before the first tenth of them is not counted."""
    clock, late = time.perf_counter_ns, []
    meet()
    for _ in range(count // 10):
        next_stamp()
    cpu, began = time.process_time_ns(), clock()
    for _ in range(count - count // 10):
        stamp = next_stamp()
        late.append(clock() - stamp)
    share = (time.process_time_ns() - cpu) / (clock() - began)
    return Waited(100 * share, statistics.median(late) / 1e3)


def read_ours(meet: Meet, folder: str, _number: int, count: int) -> Waited:
    with ringbell.subscribe(f"{folder}/p") as subscriber:
        recv, from_bytes = subscriber.recv, int.from_bytes
        return watch(meet, lambda: from_bytes(recv()[:8], "little"), count)


def read_kernel(meet: Meet, folder: str, number: int, count: int) -> Waited:
    """Sleep in `read` on a pipe."""
    fd = os.open(f"{folder}/{number}", os.O_RDONLY)
    try:
        return watch(meet, lambda: int.from_bytes(os.read(fd, 8), "little"), count)
    finally:
        os.close(fd)


def read_spinning(meet: Meet, folder: str, _number: int, count: int) -> Waited:
    """Look at a shared word and yield, as model servers do; sleep after a second in vain.

    One that comes late sees the newest entry only, so it takes a stamp that it missed for this one.
    """
    with shared_words(folder) as (words, _):
        seen = 0

        def next_stamp() -> int:
            nonlocal seen
            seen += 1
            over = time.monotonic() + BUSY
            while words[0] < seen:
                if time.monotonic() < over:
                    os.sched_yield()
                else:
                    time.sleep(NAP)
            return words[1]

        return watch(meet, next_stamp, count)


# ---- the writers ----


def write_paced(meet: Meet, folder: str, way: str, readers: int, count: int, pace: float) -> None:
    with _writer(folder, way, readers) as put:
        meet()
        clock, due = time.perf_counter, time.perf_counter()
        for _ in range(count):
            due += pace
            if (left := due - clock()) > 0:
                time.sleep(left)
            put(time.perf_counter_ns())


class _writer:  # noqa: N801
    """What puts a stamp, as a context manager."""

    def __init__(self, folder: str, way: str, readers: int) -> None:
        self._folder, self._way, self._readers = folder, way, readers
        self._close: list[Callable[[], object]] = []

    def __enter__(self) -> Callable[[int], None]:
        if self._way == "ours":
            publisher = ringbell.publish(f"{self._folder}/p", min_readers=self._readers)
            self._close.append(publisher.close)
            rest, send = bytes(56), publisher.send
            return lambda stamp: send(stamp.to_bytes(8, "little") + rest)
        if self._way == "kernel":
            fds = [os.open(f"{self._folder}/{i}", os.O_WRONLY) for i in range(self._readers)]
            self._close += [lambda fd=fd: os.close(fd) for fd in fds]

            def write_all(stamp: int) -> None:
                data = stamp.to_bytes(8, "little")
                for fd in fds:
                    os.write(fd, data)

            return write_all
        memory = shared_words(self._folder)
        words, _ = memory.__enter__()
        self._close.append(lambda: memory.__exit__(None, None, None))

        def bump(stamp: int) -> None:
            words[1] = stamp
            words[0] += 1

        return bump

    def __exit__(self, *_: object) -> None:
        for close in self._close:
            close()


class shared_words:  # noqa: N801
    """Words of 8 bytes that the processes share, in a file of the folder."""

    SIZE = 4096

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/words"

    def __enter__(self) -> tuple[Any, Any]:
        with Path(self._path).open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")
        return self._words, self._map

    def __exit__(self, *_: object) -> None:
        self._words.release()
        self._bytes.release()
        self._map.close()

    @classmethod
    def create(cls, folder: str) -> None:
        Path(f"{folder}/words").write_bytes(bytes(cls.SIZE))


# ---- here ----

READERS = {"ours": read_ours, "kernel": read_kernel, "spinning": read_spinning}


def run(workers: Crew, way: str, readers: int, pace: int, scale: float) -> Waited:
    """Give the median reader."""
    count = max(20, int(SECONDS[pace] * scale * 1000 / pace))
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        shared_words.create(folder)
        for i in range(readers):
            os.mkfifo(f"{folder}/{i}")
        jobs: list[Job] = [(write_paced, (folder, way, readers, count, pace / 1000))]
        jobs += [(READERS[way], (folder, i, count)) for i in range(readers)]
        _, *waited = workers.run(jobs)
    return Waited(*(statistics.median(values) for values in zip(*waited, strict=True)))


def rows(rounds: int, cpus: tuple[int, int], scale: float) -> Iterator[Row]:
    """Readers and the writer are on both CPUs."""
    with crew([set(cpus)] * 4) as workers:
        for pace, readers in ((1, 3), (1, 1), (10, 3)):
            found: dict[str, list[Waited]] = {way: [] for way in READERS}
            for _ in range(rounds):
                for way in READERS:
                    found[way].append(run(workers, way, readers, pace, scale))
            yield from _rows_of(found, pace, readers)


def _rows_of(found: dict[str, list[Waited]], pace: int, readers: int) -> Iterator[Row]:
    name = f"each {pace} ms, {readers} reader{'s' if readers > 1 else ''}"

    def pairs(peer: str, field: str) -> list[tuple[float, float]]:
        both = zip(found["ours"], found[peer], strict=True)
        return [(getattr(a, field), getattr(b, field)) for a, b in both]

    yield below(f"{name}: CPU of one, %", [one.share for one in found["ours"]], SHARES[pace])
    # A ratio says how many times better ours is: 0.67 is 1.5 times as late.
    latency = f"{name}: send to return, p50, us"
    yield compare(latency, "pipe", pairs("kernel", "late"), round(LATER, 2), True)
    floor = compare(f"{name}: CPU of one, %", "pipe", pairs("kernel", "share"), 0, True)
    yield floor._replace(target=None, reached=None)
    yield compare(f"{name}: CPU of one, %", "spinning", pairs("spinning", "share"), CHEAPER, True)
    yield compare(latency, "spinning", pairs("spinning", "late"), 1.0, True)
