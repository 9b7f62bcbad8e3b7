# SPDX-License-Identifier: MIT
"""The figures that ringbell promises, as ratios against multiprocessing.Pipe in one run.

    python bench/ratios.py [--rounds 7] [--json]

Both processes are pinned, one CPU each. The rounds alternate (ours, theirs, ours, theirs, ...), and
what is printed are medians over the rounds; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from machine import describe
from table import Row, below, compare, show

import ringbell
from ringbell.pinning import choose_pair

MESSAGE = b"x" * 64
CALLS = 20_000
MESSAGES = 200_000
REQUESTS = 100_000
DEPTH = 128
IDLE_SECONDS = 2.0


# ---- the other side, in a process of its own ----


def echo_device(path: str, cpu: int) -> None:
    ringbell.serve(path, bytes, cpu=cpu)


def sink_device(path: str, cpu: int) -> None:
    with ringbell.listen(path, cpu=cpu) as listener, listener.accept() as device:
        while device.doorbell.recv() == b"sink":
            for _ in range(MESSAGES):
                device.doorbell.recv()
            device.interrupt.send(b"done")


def pipe_side(connection: Connection, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    while True:
        job = connection.recv_bytes()
        if job == b"stop":
            return
        if job == b"sink":
            for _ in range(MESSAGES):
                connection.recv_bytes()
            connection.send_bytes(b"done")
        else:
            while payload := connection.recv_bytes():
                connection.send_bytes(payload)
            connection.send_bytes(b"")


# ---- one round each ----


def p50(call: Callable[[bytes], object]) -> float:
    clock = time.perf_counter_ns
    times = []
    for _ in range(CALLS):
        begin = clock()
        call(MESSAGE)
        times.append(clock() - begin)
    return statistics.median(times) / 1e3


def ringbell_round_trip(driver: ringbell.Driver) -> float:
    return p50(driver.call)


def pipe_round_trip(connection: Connection) -> float:
    def call(payload: bytes) -> bytes:
        connection.send_bytes(payload)
        return connection.recv_bytes()

    connection.send_bytes(b"echo")
    result = p50(call)
    call(b"")
    return result


def ringbell_one_way(driver: ringbell.Driver) -> float:
    send = driver.doorbell.send
    send(b"sink")
    begin = time.perf_counter()
    for _ in range(MESSAGES):
        send(MESSAGE)
    driver.interrupt.recv()
    return MESSAGES / (time.perf_counter() - begin)


def pipe_one_way(connection: Connection) -> float:
    send = connection.send_bytes
    send(b"sink")
    begin = time.perf_counter()
    for _ in range(MESSAGES):
        send(MESSAGE)
    connection.recv_bytes()
    return MESSAGES / (time.perf_counter() - begin)


def ringbell_in_flight(driver: ringbell.Driver) -> float:
    begin = time.perf_counter()
    for _ in driver.map((MESSAGE for _ in range(REQUESTS)), depth=DEPTH):
        pass
    return REQUESTS / (time.perf_counter() - begin)


def pipe_in_flight(connection: Connection) -> float:
    send, recv = connection.send_bytes, connection.recv_bytes
    send(b"echo")
    begin = time.perf_counter()
    for _ in range(DEPTH):
        send(MESSAGE)
    for _ in range(REQUESTS - DEPTH):
        recv()
        send(MESSAGE)
    for _ in range(DEPTH):
        recv()
    result = REQUESTS / (time.perf_counter() - begin)
    send(b"")
    recv()
    return result


def kicks_per_thousand(driver: ringbell.Driver) -> tuple[float, float, float]:
    before = driver.stats()
    rate = ringbell_in_flight(driver)
    after = driver.stats()
    return (
        rate,
        (after.driver.producer.kicks_sent - before.driver.producer.kicks_sent) * 1e3 / REQUESTS,
        (after.device.producer.kicks_sent - before.device.producer.kicks_sent) * 1e3 / REQUESTS,
    )


def idle_wait(driver: ringbell.Driver) -> tuple[float, int]:
    """Wait two seconds in vain; give the milliseconds of CPU and the number of sleeps."""
    before = resource.getrusage(resource.RUSAGE_THREAD)
    slept = driver.stats().driver.consumer.sleeps
    with contextlib.suppress(ringbell.RingEmpty):
        driver.interrupt.recv(timeout=IDLE_SECONDS)
    slept = driver.stats().driver.consumer.sleeps - slept
    after = resource.getrusage(resource.RUSAGE_THREAD)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert slept <= 1, "a wait that nobody ends sleeps once"
    return cpu * 1e3, after.ru_nvcsw - before.ru_nvcsw - slept


# ---- all rounds ----


def measure(rounds: int, cpus: tuple[int, int], folder: str) -> list[Row]:
    context = multiprocessing.get_context("spawn")
    echo, sink = str(Path(folder) / "echo"), str(Path(folder) / "sink")
    connection, far_end = context.Pipe()
    processes = [
        context.Process(target=echo_device, args=(echo, cpus[1])),
        context.Process(target=sink_device, args=(sink, cpus[1])),
        context.Process(target=pipe_side, args=(far_end, cpus[1])),
    ]
    try:
        for process in processes:
            process.start()
        with ExitStack() as guard:
            echo_driver = guard.enter_context(connect_when_there(echo, cpus[0]))
            sink_driver = guard.enter_context(connect_when_there(sink, cpus[0]))
            rows = [
                compare(
                    "round trip of 64 bytes, p50, us",
                    "Pipe",
                    [
                        (ringbell_round_trip(echo_driver), pipe_round_trip(connection))
                        for _ in range(rounds)
                    ],
                    less_is_better=True,
                    target=25.0,
                ),
                compare(
                    "one-way messages of 64 bytes, /s",
                    "Pipe",
                    [
                        (ringbell_one_way(sink_driver), pipe_one_way(connection))
                        for _ in range(rounds)
                    ],
                    target=5.0,
                ),
            ]
            loads = [
                (kicks_per_thousand(echo_driver), pipe_in_flight(connection)) for _ in range(rounds)
            ]
            what = f"requests of 64 bytes, depth {DEPTH}, /s"
            rows.append(
                compare(what, "Pipe", [(load[0], pipe) for load, pipe in loads], target=3.0)
            )
            to_device, to_driver = ([load[side] for load, _ in loads] for side in (1, 2))
            rows.append(below("kicks per 1,000 requests, to device", to_device, 5.0))
            rows.append(below("kicks per 1,000 requests, to driver", to_driver, 5.0))
            idle = [idle_wait(echo_driver) for _ in range(5)]
            rows.append(below("CPU ms of a blocked wait of 2 s", [cpu for cpu, _ in idle], 1.0))
            rows.append(below("wake-ups in it", [float(woken) for _, woken in idle], 0.5))
            sink_driver.doorbell.send(b"stop")
        connection.send_bytes(b"stop")
        return rows
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()


def connect_when_there(path: str, cpu: int, **options: Any) -> ringbell.Driver:
    give_up = time.monotonic() + 30
    while True:
        try:
            return ringbell.connect(path, cpu=cpu, **options)
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="at least 5 make a median")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    if cpus is None:
        print("This benchmark needs two CPUs; only one may be used here.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options.rounds, cpus, folder)
    machine = f"{describe(cpus)}, {options.rounds} rounds"
    return show(rows, machine, options.json)


if __name__ == "__main__":
    sys.exit(main())
