# SPDX-License-Identifier: MIT
"""Numbered messages between a driver and a device, every one checked, with pauses at random.

`drive(driver, progress, until)` in one process and `serve(device, progress)` in the other, with the
same traffic, exchange messages over the public calls until `until()` is true. Both sides know which
bytes belong to each number, so a message that is lost, repeated, out of order or changed raises.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter_ns

import ringbell

LONG_WAIT = 100_000_000  # nanoseconds
REQUEST, ANSWER = 0, 1
# Sizes, bursts and pauses are drawn once, for two reasons: both sides need to know them, and to
# draw takes as long as to send. The length is a prime, so the table and the ring never repeat
# together.
TABLE = 4093
ROUNDS = 100  # between two calls of Progress.look
HELD = 3  # requests that a device answers in any order


class Wrong(Exception):  # noqa: N818
    """A message came that was not the next one."""


@dataclass
class Traffic:
    """What both sides know of the traffic in advance."""

    kind: str = "messages"
    """messages: bursts of doorbell.send, each answered by as many interrupt.send;
    requests: submit, take, complete and reap."""
    least: int = 8
    """Bytes of the shortest payload."""
    size: int = 200
    """Bytes of the longest payload; most are no longer than a quarter of that."""
    window: int = 3
    """Messages of one burst, or requests in flight, at most."""
    skew: int = 2000
    """Nanoseconds of the longest pause."""
    seed: int = 1

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        longest = max(self.size - self.least, 0)
        self.sizes = [
            self.least + chance.randint(0, longest // 4 if chance.random() < 7 / 8 else longest)
            for _ in range(TABLE)
        ]
        self.bursts = [chance.randint(1, self.window) for _ in range(TABLE)]
        self.bytes = chance.randbytes(TABLE + self.least + self.size)

    def message(self, number: int, direction: int) -> bytes:
        name = number * 2 + direction
        start = number % TABLE
        return name.to_bytes(8, "little") + self.bytes[start : start + self.sizes[name % TABLE] - 8]

    def check(self, got: bytes | memoryview, number: int, direction: int) -> None:
        expected = self.message(number, direction)
        if got == expected:
            return
        name = int.from_bytes(got[:8], "little")
        raise Wrong(
            f"{('request', 'answer')[direction]} {number} of {len(expected)} bytes was next, but "
            f"{('request', 'answer')[name % 2]} {name // 2} of {len(got)} bytes came"
        )


class Progress:
    """What one side has done so far, and how long it had to wait."""

    def __init__(self, traffic: Traffic, side: str) -> None:
        self.traffic = traffic
        self.side = side
        self.sent = self.taken = self.steps = self.longest = 0
        chance = random.Random(f"{side} {traffic.seed}")
        self.pauses = [chance.choice((0, chance.randint(0, traffic.skew))) for _ in range(TABLE)]

    def look(self) -> None:
        """Be called every ROUNDS rounds."""

    def waited_long(self, nanoseconds: int) -> None:
        """Be called after a wait of more than LONG_WAIT."""

    def pause(self) -> None:
        self.steps += 1
        pause = self.pauses[self.steps % TABLE]
        if pause:
            until = perf_counter_ns() + pause
            while perf_counter_ns() < until:
                pass

    def timed(self, call, *arguments):
        """Call what may wait, after a pause."""
        self.pause()
        begin = perf_counter_ns()
        result = call(*arguments)
        waited = perf_counter_ns() - begin
        if waited > self.longest:
            self.longest = waited
        if waited > LONG_WAIT:
            self.waited_long(waited)
        return result

    def send(self, producer: ringbell.Producer, direction: int) -> None:
        """Send the next message, every third one in place."""
        message = self.traffic.message(self.sent, direction)
        if self.sent % 3 or len(message) > producer.max_payload:
            self.timed(producer.send, message)
        else:
            with self.timed(producer.reserve, len(message)) as frame:
                frame.payload[:] = message
        self.sent += 1

    def receive(self, consumer: ringbell.Consumer, direction: int) -> None:
        self.traffic.check(self.timed(consumer.recv), self.taken, direction)
        self.taken += 1


# ---- the driver ----


def drive(driver: ringbell.Driver, progress: Progress, until: Callable[[], bool]) -> None:
    """Exchange messages until all is answered and `until()` says that it is enough; then close."""
    step = _drive_requests if progress.traffic.kind == "requests" else _drive_messages
    in_flight: dict[int, int] = {}
    rounds = 0
    with driver:
        while True:
            if rounds % ROUNDS == 0:
                progress.look()
                if until():
                    break
            step(driver, progress, progress.traffic.bursts[rounds % TABLE], in_flight)
            rounds += 1
        while in_flight:
            _reap(driver, progress, in_flight)
        progress.look()


def _drive_messages(
    driver: ringbell.Driver, progress: Progress, burst: int, _: dict[int, int]
) -> None:
    for _ in range(burst):
        progress.send(driver.doorbell, REQUEST)
    for _ in range(burst):
        progress.receive(driver.interrupt, ANSWER)


def _drive_requests(
    driver: ringbell.Driver, progress: Progress, window: int, in_flight: dict[int, int]
) -> None:
    while len(in_flight) >= window:
        _reap(driver, progress, in_flight)
    message = progress.traffic.message(progress.sent, REQUEST)
    if progress.sent % 3 or len(message) > driver.max_payload:
        token = progress.timed(driver.submit, message)
    else:
        with progress.timed(driver.reserve, len(message)) as frame:
            frame.payload[:] = message
        token = frame.token
    in_flight[token] = progress.sent
    progress.sent += 1


def _reap(driver: ringbell.Driver, progress: Progress, in_flight: dict[int, int]) -> None:
    completion = progress.timed(driver.reap)
    if completion.token not in in_flight:
        raise Wrong(f"an answer to token {completion.token}, which is not in flight, came")
    progress.traffic.check(completion.payload, in_flight.pop(completion.token), ANSWER)
    progress.taken += 1


# ---- the device ----


def serve(device: ringbell.Device, progress: Progress) -> None:
    """Answer until the driver closes."""
    step = _serve_requests if progress.traffic.kind == "requests" else _serve_messages
    rounds = 0
    with device, suppress(ringbell.EndOfStream):
        while True:
            if rounds % ROUNDS == 0:
                progress.look()
            step(device, progress, progress.traffic.bursts[rounds % TABLE])
            rounds += 1
    progress.look()


def _serve_messages(device: ringbell.Device, progress: Progress, burst: int) -> None:
    for _ in range(burst):
        progress.receive(device.doorbell, REQUEST)
    for _ in range(burst):
        progress.send(device.interrupt, ANSWER)


def _serve_requests(device: ringbell.Device, progress: Progress, burst: int) -> None:
    held = [_take(device, progress, None)]
    # Requests that the device holds take room that large messages need.
    may_hold = progress.traffic.size < device.interrupt.max_payload // (2 * HELD)
    with suppress(ringbell.RingEmpty, ringbell.EndOfStream):
        while may_hold and len(held) < min(burst, HELD):
            held.append(_take(device, progress, 0))
    # It answers the last one first: a driver may get its answers in any order.
    for number, request in reversed(held):
        progress.timed(request.complete, progress.traffic.message(number, ANSWER))
        progress.sent += 1


def _take(
    device: ringbell.Device, progress: Progress, timeout: float | None
) -> tuple[int, ringbell.Request]:
    request = progress.timed(device.take, timeout)
    progress.traffic.check(request.payload, progress.taken, REQUEST)
    progress.taken += 1
    return progress.taken - 1, request
