# SPDX-License-Identifier: MIT
"""ringbell's own times with pytest-benchmark, to compare one version or machine with another.

pytest bench --benchmark-autosave; pytest bench --benchmark-compare
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ratios import connect_when_there, echo_device
from streams import BATCH, MANY, borrow_all, other_process, recv_all, recv_many_all

from ringbell.pinning import choose_pair

# Chosen now: later a fixture pins this process to one CPU.
CPUS = choose_pair()


@pytest.fixture(scope="module")
def driver():
    cpus = CPUS
    if cpus is None:
        pytest.skip("needs two CPUs")
    affinity = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "echo")
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=echo_device, args=(path, cpus[1]))
        process.start()
        try:
            with connect_when_there(path, cpus[0]) as driver:
                yield driver
        finally:
            process.terminate()
            process.join()
            os.sched_setaffinity(0, affinity)


@pytest.mark.parametrize("size", [0, 64, 1024, 16384, 1 << 20])
def test_call(benchmark, driver, size):
    payload = b"x" * size
    assert benchmark(driver.call, payload) == payload


@pytest.mark.parametrize("depth", [1, 16, 128])
def test_map_of_1000(benchmark, driver, depth):
    payloads = [b"x" * 64] * 1000
    assert benchmark(lambda: list(driver.map(payloads, depth=depth))) == payloads


def test_submit_and_reap(benchmark, driver):
    def exchange():
        driver.submit(b"x" * 64)
        return driver.reap()

    assert benchmark(exchange).ok


def test_reserve_in_place(benchmark, driver):
    def exchange():
        with driver.reserve(64) as frame:
            frame.payload[:] = b"y" * 64
        return driver.reap()

    assert benchmark(exchange).payload == b"y" * 64


@pytest.fixture(scope="module")
def stream_to():
    """Make a stream from here to another process, which takes everything in the given way."""
    cpus = CPUS
    if cpus is None:
        pytest.skip("needs two CPUs")
    with (
        tempfile.TemporaryDirectory(prefix="rb-") as folder,
        other_process(cpus, Path(folder)) as streams,
    ):

        def send(job, use, dtype=None):
            def produce(stream):
                use(stream)
                return stream.stats().driver.producer.entries

            streams.run(job, produce, dtype)

        yield send


@pytest.mark.parametrize("size", [8, 64, 1024])
def test_write_of_1024_records(benchmark, stream_to, size):
    rows = np.zeros(BATCH, f"V{size}")
    stream_to((borrow_all, BATCH), lambda stream: benchmark(stream.write, rows), rows.dtype)


def test_reserve_of_1024_records(benchmark, stream_to):
    def reserve(stream):
        with stream.reserve(BATCH) as rows:
            rows[:] = 1

    stream_to((borrow_all, BATCH), lambda stream: benchmark(reserve, stream), "u8")


def test_send(benchmark, stream_to):
    stream_to((recv_all,), lambda stream: benchmark(stream.send, b"x" * 64))


def test_send_many(benchmark, stream_to):
    stream_to((recv_many_all,), lambda stream: benchmark(stream.send_many, [b"x" * 64] * MANY))
