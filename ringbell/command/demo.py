# SPDX-License-Identifier: MIT
"""The demo: files in blocks through a device in another process, every answer checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ringbell.calls.driver import Driver
from ringbell.errors import RequestFailed
from ringbell.launching.device import launch
from ringbell.pinning import pin
from ringbell.policy import Kick, Polling

ROUNDS = 2
_ALONE = 2000
"""Requests whose round trip is measured one at a time."""
_BLOCK_MAX = 1 << 28
_PATIENCE = 60.0
"""Seconds without an answer after which the demo gives up: far longer than any block takes."""


def sha256(payload: memoryview | bytes) -> bytes:
    """Answer with the SHA-256 of the block."""
    return hashlib.sha256(payload).digest()


def compress(payload: memoryview | bytes) -> bytes:
    """Answer with the block, zlib-compressed."""
    return zlib.compress(payload)


WORKS: dict[str, Callable[[memoryview | bytes], bytes]] = {"sha256": sha256, "compress": compress}
"""What the device does, and what the driver computes to check the answers."""


@dataclass(frozen=True)
class Job:
    """What to send and what to do with it; raises ValueError when that cannot be done."""

    source: Path
    work: str
    block: int
    depth: int

    def __post_init__(self) -> None:
        if self.work not in WORKS:
            raise ValueError(f"--work is one of {', '.join(WORKS)}, not {self.work!r}")
        if not 1 <= self.block <= _BLOCK_MAX:
            raise ValueError(f"--block is from 1 to {_BLOCK_MAX} bytes, not {self.block}")
        if self.depth < 1:
            raise ValueError(f"--depth is a number of requests, at least 1, not {self.depth}")
        if not self.source.exists():
            raise ValueError(f"--input {self.source}: there is no such file or folder")

    def files(self) -> tuple[list[Path], int]:
        """Find the regular files of the source and the sum of their sizes in bytes.

        Leaves out packages installed in a standard library: they are no part of it.
        """
        found = [self.source] if self.source.is_file() else sorted(_walk(self.source))
        if not found:
            raise ValueError(f"--input {self.source}: there are no files in it")
        return found, sum(path.stat().st_size for path in found)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name != "site-packages"]
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def read_once(files: list[Path], progress: Callable[[int], object]) -> None:
    """Read the files into the page cache. Otherwise the first run would be the slowest."""
    for path in files:
        with contextlib.suppress(OSError), path.open("rb") as file:
            while block := file.read(1 << 20):
                progress(len(block))


@dataclass(frozen=True)
class Result:
    """What one run measured."""

    kick: Kick
    files: int
    skipped: int
    bytes: int
    requests: int
    wrong: int
    seconds: float
    kicks_sent_to_device: int
    kicks_sent_to_driver: int
    kicks_saved: int
    driver_sleeps: int
    device_sleeps: int
    driver_kernel_seconds: float
    device_kernel_seconds: float
    latency_p50_us: float
    latency_p99_us: float
    latency_p999_us: float
    alone_p50_us: float
    """Round trips of requests that are sent one at a time, after all others."""
    alone_p99_us: float
    work_p50_us: float
    """The work on a block, without any exchange."""

    def figures(self) -> dict[str, float]:
        """Give what follows from the counts; kicks are per 1,000 requests."""
        requests = max(self.requests, 1)
        return {
            "requests_per_second": self.requests / self.seconds,
            "megabytes_per_second": self.bytes / 1e6 / self.seconds,
            "kicks_to_device": self.kicks_sent_to_device * 1e3 / requests,
            "kicks_to_driver": self.kicks_sent_to_driver * 1e3 / requests,
        }


def run(
    job: Job,
    kick: Kick,
    cpus: tuple[int, int] | None,
    files: list[Path],
    progress: Callable[[int], object],
) -> Result:
    """Start a device process, send it all files, check every answer.

    `progress` is told how many bytes have been answered. Raises what `launch` and `submit` raise
    when the device process fails.
    """
    driver_cpu, device_cpu = cpus or (None, None)
    # With one CPU, a side that polls only keeps the other one from running.
    polling: Polling = "adaptive" if cpus else "never"
    work = f"{__name__}:{job.work}"  # imported by the device, whatever WORKS has here
    affinity = os.sched_getaffinity(0)
    children = _kernel_seconds(resource.RUSAGE_CHILDREN)
    try:
        with launch(work, cpu=device_cpu, kick=kick, polling=polling) as driver:
            pin(driver_cpu)
            result = _Exchange(driver, job, progress).run(files, kick)
        # The kernel tells it only once the device process has ended. It includes its start.
        device = _kernel_seconds(resource.RUSAGE_CHILDREN) - children
        return replace(result, device_kernel_seconds=device)
    finally:
        os.sched_setaffinity(0, affinity)


def _kernel_seconds(who: int) -> float:
    return resource.getrusage(who).ru_stime


class _Exchange:
    """Keeps `depth` requests in flight; checks and times each answer."""

    def __init__(self, driver: Driver, job: Job, progress: Callable[[int], object]) -> None:
        self._driver = driver
        self._job = job
        self._expected = WORKS[job.work]
        self._progress = progress
        self._sent: dict[int, tuple[int, bytes]] = {}  # by token: when, what
        self._latencies: list[int] = []
        self._wrong = 0
        self._bytes = 0

    def run(self, files: list[Path], kick: Kick) -> Result:
        unreadable: deque[Path] = deque()
        begin, kernel = time.perf_counter(), _kernel_seconds(resource.RUSAGE_SELF)
        for block in _blocks(files, self._job.block, unreadable):
            if len(self._sent) >= self._job.depth:
                self._take_one()
            now = time.perf_counter_ns()
            self._sent[self._driver.submit(block, timeout=_PATIENCE)] = (now, block)
        while self._sent:
            self._take_one()
        seconds = time.perf_counter() - begin
        kernel = _kernel_seconds(resource.RUSAGE_SELF) - kernel
        stats = self._driver.stats()
        alone, work = self._one_at_a_time(files)
        driver, device = stats.driver, stats.device
        times = sorted(self._latencies)
        return Result(
            kick=kick,
            files=len(files) - len(unreadable),
            skipped=len(unreadable),
            bytes=self._bytes,
            requests=len(times),
            wrong=self._wrong,
            seconds=seconds,
            kicks_sent_to_device=driver.producer.kicks_sent,
            kicks_sent_to_driver=device.producer.kicks_sent,
            kicks_saved=driver.producer.kicks_saved + device.producer.kicks_saved,
            driver_sleeps=driver.producer.sleeps + driver.consumer.sleeps,
            device_sleeps=device.producer.sleeps + device.consumer.sleeps,
            driver_kernel_seconds=kernel,
            device_kernel_seconds=0.0,
            latency_p50_us=_percentile(times, 0.5),
            latency_p99_us=_percentile(times, 0.99),
            latency_p999_us=_percentile(times, 0.999),
            alone_p50_us=_percentile(alone, 0.5),
            alone_p99_us=_percentile(alone, 0.99),
            work_p50_us=_percentile(work, 0.5),
        )

    def _one_at_a_time(self, files: list[Path]) -> tuple[list[int], list[int]]:
        """Measure some round trips, and the work in them, in nanoseconds, sorted.

        Wrong answers count as others do.
        """
        times, work = [], []
        for block in islice(_blocks(files, self._job.block, deque()), _ALONE):
            begin = time.perf_counter_ns()
            try:
                answer = self._driver.call(block, timeout=_PATIENCE)
            except RequestFailed:
                answer = b""
            middle = time.perf_counter_ns()
            expected = self._expected(block)
            work.append(time.perf_counter_ns() - middle)
            times.append(middle - begin)
            self._wrong += answer != expected
        return sorted(times), sorted(work)

    def _take_one(self) -> None:
        completion = self._driver.reap(timeout=_PATIENCE)
        begin, block = self._sent.pop(completion.token)
        self._latencies.append(time.perf_counter_ns() - begin)
        try:
            self._wrong += completion.result() != self._expected(block)
        except RequestFailed:
            self._wrong += 1
        self._bytes += len(block)
        self._progress(len(block))


def _blocks(files: list[Path], size: int, unreadable: deque[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            with path.open("rb") as file:
                while block := file.read(size):
                    yield block
        except OSError:
            unreadable.append(path)


def _percentile(sorted_ns: list[int], fraction: float) -> float:
    if not sorted_ns:
        return 0.0
    return sorted_ns[min(int(fraction * len(sorted_ns)), len(sorted_ns) - 1)] / 1e3
