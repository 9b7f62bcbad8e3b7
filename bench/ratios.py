# SPDX-License-Identifier: MIT
"""The figures that ringbell promises, as ratios against multiprocessing.Pipe in one run.

    python bench/ratios.py [--rounds 7] [--json]

Both processes are pinned, one CPU each. The rounds alternate (ours, theirs, ours, theirs, ...), and
what is printed are medians over the rounds; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import ringbell
from ringbell.pinning import choose_pair

MESSAGE = b"x" * 64
CALLS = 20_000
MESSAGES = 200_000
REQUESTS = 100_000
DEPTH = 128
IDLE_SECONDS = 2.0


# ---- the other side, in a process of its own ----


def ringbell_side(path: str, cpu: int) -> None:
    with ringbell.listen(path, cpu=cpu) as listener, listener.accept() as device:
        while True:
            job = device.doorbell.recv()
            if job == b"stop":
                return
            if job == b"sink":
                for _ in range(MESSAGES):
                    device.doorbell.recv()
                device.interrupt.send(b"done")
            else:
                for request in device:
                    if len(request.payload) == 0:
                        request.complete()
                        break
                    request.complete(bytes(request.payload))


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
    driver.doorbell.send(b"echo")
    result = p50(driver.call)
    driver.call(b"")
    return result


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
    driver.doorbell.send(b"echo")
    begin = time.perf_counter()
    for _ in driver.map((MESSAGE for _ in range(REQUESTS)), depth=DEPTH):
        pass
    result = REQUESTS / (time.perf_counter() - begin)
    driver.call(b"")
    return result


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
    """CPU milliseconds and times put to sleep in a wait of two seconds for nothing."""
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


def measure(rounds: int, cpus: tuple[int, int], folder: str) -> list[dict[str, object]]:
    context = multiprocessing.get_context("spawn")
    path = str(Path(folder) / "bench.sock")
    ours = context.Process(target=ringbell_side, args=(path, cpus[1]))
    connection, theirs_end = context.Pipe()
    theirs = context.Process(target=pipe_side, args=(theirs_end, cpus[1]))
    ours.start()
    theirs.start()
    try:
        while not Path(path).exists():
            time.sleep(0.01)
            if not ours.is_alive():
                raise RuntimeError("the device process ended early")
        with ringbell.connect(path, cpu=cpus[0]) as driver:
            rows = _measure_pairs(rounds, driver, connection)
            idle = [idle_wait(driver) for _ in range(5)]
            rows.append(_bound("CPU ms of a blocked wait of 2 s", [c for c, _ in idle], 1.0))
            rows.append(_bound("wake-ups in it", [float(w) for _, w in idle], 0.5))
            driver.doorbell.send(b"stop")
        connection.send_bytes(b"stop")
        return rows
    finally:
        for process in (ours, theirs):
            process.join(5)
            if process.is_alive():
                process.terminate()
                process.join()


def _measure_pairs(
    rounds: int, driver: ringbell.Driver, connection: Connection
) -> list[dict[str, object]]:
    pairs = [
        ("round trip of 64 bytes, p50, us", ringbell_round_trip, pipe_round_trip, False, 25.0),
        ("one-way messages of 64 bytes, /s", ringbell_one_way, pipe_one_way, True, 5.0),
        (f"requests of 64 bytes, depth {DEPTH}, /s", None, pipe_in_flight, True, 3.0),
    ]
    rows: list[dict[str, object]] = []
    kicks: list[tuple[float, float, float]] = []
    for what, ring, pipe, more_is_better, target in pairs:
        mine, others = [], []
        for _ in range(rounds):
            if ring is None:
                kicks.append(kicks_per_thousand(driver))
                mine.append(kicks[-1][0])
            else:
                mine.append(ring(driver))
            others.append(pipe(connection))
        both = zip(mine, others, strict=True)
        ratio = statistics.median(a / b if more_is_better else b / a for a, b in both)
        rows.append(
            {
                "what": what,
                "ringbell": statistics.median(mine),
                "pipe": statistics.median(others),
                "ratio": ratio,
                "target": f">= {target:g}",
                "reached": ratio >= target,
            }
        )
    rows.append(_bound("kicks per 1,000 requests, to device", [k[1] for k in kicks], 5.0))
    rows.append(_bound("kicks per 1,000 requests, to driver", [k[2] for k in kicks], 5.0))
    return rows


def _bound(what: str, values: list[float], target: float) -> dict[str, object]:
    median = statistics.median(values)
    return {
        "what": what,
        "ringbell": median,
        "pipe": None,
        "ratio": None,
        "target": f"< {target:g}",
        "reached": median < target,
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def print_table(rows: list[dict[str, object]]) -> None:
    print(f"{'':42}{'ringbell':>12}{'Pipe':>12}{'ratio':>8}  {'target':8}reached")
    for row in rows:
        cells = [f"{row['what']:42}", f"{row['ringbell']:12,.2f}"]
        cells.append(f"{row['pipe']:12,.2f}" if row["pipe"] is not None else " " * 12)
        cells.append(f"{row['ratio']:8.1f}" if row["ratio"] is not None else " " * 8)
        cells.append(f"  {row['target']:8}{'yes' if row['reached'] else 'NO'}")
        print("".join(cells))


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
    machine = (
        f"{cpu_model()}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"pinned to CPU {cpus[0]} and {cpus[1]}, {options.rounds} rounds"
    )
    if options.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=1))
    else:
        print(machine)
        print_table(rows)
    return 0 if all(row["reached"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
