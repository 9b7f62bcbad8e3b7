# SPDX-License-Identifier: MIT
"""Large payloads: by reference, copied through the ring, and through multiprocessing.Pipe.

    python bench/blocks.py [--rounds 5] [--sizes 65536 262144 ...] [--json]

The time of one message, in microseconds, in a stream of them: the sender has the payload as bytes,
the receiver answers when it has all of them. `recv` gives bytes. `hold` gives a view, which is
dropped at the next message; one byte of each page is read. `in place` is `reserve` and `hold`: the
sender writes one byte of each page, as a camera would write all of them, and nobody copies.

Then a slow reader: it keeps the last four frames of 3840x2160x3 bytes and takes 20 ms for each. How
long does a `send` of a frame take, and how long a small message behind three frames?

The rounds alternate (ours, theirs, ...), and a ratio is the median of the rounds' ratios. The sides
are pinned to two CPUs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from machine import describe
from table import Row, show

import ringbell

FRAME = 3840 * 2160 * 3
SIZES = [1 << 20, 16 << 20, 256 << 20, FRAME]
PAGE = 4096
BLOCKS = ringbell.Blocks(pool=640 << 20, least=4096, when_lent="wait")
HELD, PACE = 4, 0.02
CPUS = sorted(os.sched_getaffinity(0))[:2]


def touch(view: Any) -> None:
    """Read one byte of each page."""
    bytes(memoryview(view)[::PAGE])


def reader(path: str, theirs: Connection | None, take: str, control: Connection) -> None:
    """Take as many messages as told, and say when they are there."""
    os.sched_setaffinity(0, CPUS[-1:])
    if theirs is not None:
        serve(theirs.recv_bytes, control, take)
        return
    with ringbell.consume(path) as consumer:
        serve(getattr(consumer, take), control, take)


def serve(receive: Callable[[], Any], control: Connection, take: str) -> None:
    while (count := control.recv()) is not None:
        held: deque[Any] = deque(maxlen=HELD)
        for _ in range(abs(count)):
            payload = receive()
            if count < 0:
                held.append(payload)
                if len(payload) > 1:
                    time.sleep(PACE)
            elif take == "hold":
                touch(payload)
            del payload
        held.clear()
        control.send(True)


@contextmanager
def sending(way: str) -> Iterator[tuple[Callable[[Any], None], Connection]]:
    """Give what sends one payload that way, and the connection to tell the reader by."""
    context = multiprocessing.get_context("spawn")
    control, far = context.Pipe()
    ours, theirs = context.Pipe() if way == "Pipe" else (None, None)
    take = "hold" if way in ("hold", "in place", "reference") else "recv"
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        path = f"{folder}/s"
        process = context.Process(target=reader, args=(path, theirs, take, far))
        process.start()
        try:
            if ours is not None:
                yield ours.send_bytes, control
            else:
                blocks = None if way in ("ring", "large ring") else BLOCKS
                size = 1 << 26 if way == "large ring" else 1 << 20
                with ringbell.produce(path, blocks=blocks, ring_size=size) as producer:
                    yield in_place(producer) if way == "in place" else producer.send, control
                    control.send(None)
        finally:
            if ours is not None:
                control.send(None)
            process.join()


def in_place(producer: ringbell.MessageProducer) -> Callable[[Any], None]:
    def send(payload: bytes) -> None:
        with producer.reserve(len(payload)) as frame:
            frame.payload[::PAGE] = payload[: len(frame.payload[::PAGE])]

    return send


def us_each(send: Callable[[Any], None], control: Connection, payload: bytes, count: int) -> float:
    control.send(count)
    begin = time.perf_counter()
    for _ in range(count):
        send(payload)
    control.recv()
    return (time.perf_counter() - begin) / count * 1e6


def rows_of(size: int, rounds: int) -> Iterator[Row]:
    payload = os.urandom(min(size, 1 << 20)) * max(1, size >> 20)
    payload = payload[:size] if len(payload) >= size else payload.ljust(size, b"x")
    count = max(5, min(2000, (256 << 20) // size))
    name = f"{size >> 10:,} KiB"
    with (
        sending("ring") as ring,
        sending("recv") as recv,
        sending("hold") as hold,
        sending("in place") as place,
        sending("Pipe") as pipe,
    ):
        every = {"ring": ring, "recv": recv, "hold": hold, "in place": place, "Pipe": pipe}
        for way in every.values():
            us_each(*way, payload, max(2, count // 10))
        found: dict[str, list[float]] = {way: [] for way in every}
        for _ in range(rounds):
            for way, (send, control) in every.items():
                found[way].append(us_each(send, control, payload, count))
    for way, peer in (
        ("ring", "Pipe"),
        ("recv", "ring"),
        ("hold", "ring"),
        ("hold", "Pipe"),
        ("in place", "Pipe"),
    ):
        ratio = statistics.median(b / a for a, b in zip(found[way], found[peer], strict=True))
        ours, theirs = statistics.median(found[way]), statistics.median(found[peer])
        yield Row(f"{name}, {way}, us", ours, peer, theirs, ratio)


def slow_reader(way: str, rounds: int) -> Iterator[Row]:
    frame = bytes(FRAME)
    waits, behind = [], []
    with sending(way) as (send, control):
        us_each(send, control, frame, HELD)
        for _ in range(rounds):
            control.send(-4)
            for payload in (frame, frame, frame):
                begin = time.perf_counter()
                send(payload)
                waits.append((time.perf_counter() - begin) * 1e3)
            begin = time.perf_counter()
            send(b"x")
            behind.append((time.perf_counter() - begin) * 1e3)
            control.recv()
    yield Row(f"slow reader, {way}: a frame's send, ms", statistics.median(waits))
    yield Row(f"slow reader, {way}: a small one behind it, ms", statistics.median(behind))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, CPUS[:1])
    rows = [row for size in options.sizes for row in rows_of(size, options.rounds)]
    for way in ("ring", "large ring", "reference", "Pipe"):
        rows += slow_reader(way, options.rounds)
    return show(rows, describe((CPUS[0], CPUS[-1])), options.json)


if __name__ == "__main__":
    sys.exit(main())
