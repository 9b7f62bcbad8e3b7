# SPDX-License-Identifier: MIT
"""`ringbell.Pipe` against `multiprocessing.Pipe` in the same run.

    python bench/pipe.py [--rounds 5] [--scale 1] [--json]

Both sides are Python processes, pinned to a CPU each. Rates count from before the first message to
the answer that says that all have arrived; nothing but that answer goes back. The floor is what
pickling takes alone, in one process: no pipe can be quicker. The two are measured in turn, and
ratios are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from machine import describe
from table import Row, compare, show

import ringbell
from ringbell.pinning import choose_pair, pin

BYTES = bytes(range(64))
SMALL = {"step": 17, "reward": 0.25, "done": False, "name": "worker-3"}
MESSAGES = 100_000
ROUND_TRIPS = 20_000
PEER = "Pipe"

Maker = Callable[[], tuple[Any, Any]]


def other_side(connection: Any, cpu: int) -> None:
    """Do what each first message says, until the other side closes."""
    pin(cpu)
    try:
        while True:
            what, count = connection.recv()
            globals()[what](connection, count)
    except EOFError:
        return


def take_objects(connection: Any, count: int) -> None:
    recv = connection.recv
    for _ in range(count - 1):
        recv()
    connection.send(recv() == SMALL)


def take_bytes(connection: Any, count: int) -> None:
    recv_bytes = connection.recv_bytes
    for _ in range(count - 1):
        recv_bytes()
    connection.send(recv_bytes() == BYTES)


def echo(connection: Any, count: int) -> None:
    recv_bytes, send_bytes = connection.recv_bytes, connection.send_bytes
    for _ in range(count):
        send_bytes(recv_bytes())


def rate(connection: Any, what: str, send: Callable[[Any], None], item: Any, count: int) -> float:
    """Messages a second in one direction."""
    connection.send((what, count))
    began = time.perf_counter()
    for _ in range(count):
        send(item)
    if connection.recv() is not True:
        raise SystemExit("a message is wrong")
    return count / (time.perf_counter() - began)


def round_trip(connection: Any, count: int) -> float:
    """The median time of a round trip, in microseconds."""
    connection.send(("echo", count))
    send_bytes, recv_bytes, clock = connection.send_bytes, connection.recv_bytes, time.perf_counter
    times = []
    for _ in range(count):
        began = clock()
        send_bytes(BYTES)
        got = recv_bytes()
        times.append(clock() - began)
        if got != BYTES:
            raise SystemExit("an answer is wrong")
    return statistics.median(times) * 1e6


def with_other_side(make: Maker, cpu: int, measure: Callable[[Any], list[float]]) -> list[float]:
    mine, yours = make()
    process = multiprocessing.get_context("spawn").Process(target=other_side, args=(yours, cpu))
    process.start()
    yours.close()
    try:
        return measure(mine)
    finally:
        mine.close()
        process.join()


def pickling(count: int) -> float:
    """Objects a second, pickled and unpickled by one process."""
    began = time.perf_counter()
    for _ in range(count):
        pickle.loads(pickle.dumps(SMALL))
    return count / (time.perf_counter() - began)


def measure(rounds: int, scale: float, cpu: int) -> list[Row]:
    messages, trips = int(MESSAGES * scale), int(ROUND_TRIPS * scale)

    def all_three(connection: Any) -> list[float]:
        for count in (messages // 10, messages):  # the first is warm-up
            objects = rate(connection, "take_objects", connection.send, SMALL, count)
            octets = rate(connection, "take_bytes", connection.send_bytes, BYTES, count)
        round_trip(connection, trips // 10)
        return [objects, octets, round_trip(connection, trips)]

    ours, theirs, floors = [], [], []
    for _ in range(rounds):
        ours.append(with_other_side(ringbell.Pipe, cpu, all_three))
        theirs.append(with_other_side(multiprocessing.Pipe, cpu, all_three))
        floors.append(pickling(messages))
    objects, octets, trip = (
        [(a[i], b[i]) for a, b in zip(ours, theirs, strict=True)] for i in range(3)
    )
    return [
        compare("send and recv of a small dict, a second", PEER, objects, 3),
        Row("its pickling and unpickling alone, a second", statistics.median(floors)),
        compare("send_bytes and recv_bytes of 64 bytes, a second", PEER, octets, 12),
        compare("round trip of 64 bytes, p50 in us", PEER, trip, 40, less_is_better=True),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cpus = choose_pair()
    pin(cpus[0])
    return show(measure(options.rounds, options.scale, cpus[1]), describe(cpus), options.json)


if __name__ == "__main__":
    sys.exit(main())
