# SPDX-License-Identifier: MIT
"""Requests from the tasks of an event loop, against a Unix socket of asyncio in the same run.

    python bench/aio.py [--rounds 5] [--json] [--loop uvloop]

Both sides are Python processes with a loop of asyncio each, pinned to a CPU each. The other side of
the comparison is one connection of asyncio's streams, as its documentation uses them: a message has
a length and a number before it, a task reads the answers and hands each to the task that waits for
it. All answers are compared. The two are measured in turn, and ratios are medians of the rounds'
ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

from machine import describe
from table import Row, below, compare, show

from ringbell import aio
from ringbell.pinning import choose_pair, pin

TASKS = 1000
EACH = 20  # requests of each of them
ALONE = 2000
BUDGET = 50e-6
IDLE_SECONDS = 2.0
BYTES = 64

Call = Callable[[bytes], Awaitable[bytes]]


def answer(payload: bytes | memoryview) -> bytes:
    return bytes(payload)[::-1]


# ---- asyncio's streams ----


async def serve_socket(path: str) -> None:
    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readexactly(12)
                payload = await reader.readexactly(int.from_bytes(head[:4], "little"))
                result = answer(payload)
                writer.write(len(result).to_bytes(4, "little") + head[4:] + result)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_unix_server(serve_one, path)
    async with server:
        await server.serve_forever()


class SocketDriver:
    """One connection for many tasks."""

    async def open(self, path: str) -> SocketDriver:
        self._reader, self._writer = await asyncio.open_unix_connection(path)
        self._numbers = itertools.count()
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._reading = asyncio.create_task(self._read())
        return self

    async def call(self, payload: bytes) -> bytes:
        number = next(self._numbers).to_bytes(8, "little")
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._writer.write(len(payload).to_bytes(4, "little") + number + payload)
        await self._writer.drain()
        return await future

    async def _read(self) -> None:
        while True:
            head = await self._reader.readexactly(12)
            payload = await self._reader.readexactly(int.from_bytes(head[:4], "little"))
            self._waiting.pop(head[4:]).set_result(payload)

    def close(self) -> None:
        self._reading.cancel()
        self._writer.close()


class NoTransport:
    """What asyncio takes by itself: a future a call, which the next turn of the loop answers."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[asyncio.Future[bytes], bytes]] = []

    async def call(self, payload: bytes) -> bytes:
        future: asyncio.Future[bytes] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._answer_all)
        self._waiting.append((future, payload))
        return await future

    def _answer_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future, payload in waiting:
            future.set_result(payload[::-1])


# ---- what is measured ----


async def rate(call: Call) -> float:
    """Requests a second of many tasks, each with one in flight."""

    async def one(task: int) -> None:
        for number in range(EACH):
            payload = b"%d %d" % (task, number)
            payload = payload.ljust(BYTES)
            if await call(payload) != payload[::-1]:
                raise SystemExit("an answer is wrong")

    await asyncio.gather(*map(one, range(TASKS)))  # warm
    began = time.perf_counter()
    await asyncio.gather(*map(one, range(TASKS)))
    return TASKS * EACH / (time.perf_counter() - began)


async def alone(call: Call) -> float:
    """The median time of a call while no other is in flight, in microseconds."""
    times = []
    for number in range(ALONE):
        payload = (b"%d" % number).ljust(BYTES)
        began = time.perf_counter()
        got = await call(payload)
        times.append(time.perf_counter() - began)
        if got != payload[::-1]:
            raise SystemExit("an answer is wrong")
    return statistics.median(times) * 1e6


def serve(folder: str, cpu: int, uses: str, ready: Connection) -> None:
    pin(cpu)

    async def serve_all() -> None:
        server = asyncio.create_task(serve_socket(f"{folder}/socket"))
        while not Path(f"{folder}/socket").exists():
            await asyncio.sleep(0.01)
        ready.send(None)
        await asyncio.gather(
            server,
            aio.serve(f"{folder}/rings", answer),
            aio.serve(f"{folder}/looking", answer, max_poll=BUDGET),
        )

    run(serve_all(), uses)


def run(main: Awaitable[object], uses: str) -> object:
    if uses == "uvloop":
        import uvloop

        return uvloop.run(main)
    return asyncio.run(main)


async def measure(folder: str, rounds: int) -> list[Row]:
    socket = await SocketDriver().open(f"{folder}/socket")
    nothing = NoTransport()
    rates, bare, times, looking = [], [], [], []
    async with (
        aio.connect(f"{folder}/rings", wait=True) as rings,
        aio.connect(f"{folder}/looking", wait=True, max_poll=BUDGET) as looks,
    ):
        kicks, asked, hears = 0, 0, 0
        for _ in range(rounds):
            before = rings.stats()
            ours = await rate(rings.call)
            after = rings.stats()
            rates.append((ours, await rate(socket.call)))
            bare.append((ours, await rate(nothing.call)))
            asked += after.driver.producer.entries - before.driver.producer.entries
            kicks += after.driver.producer.kicks_sent - before.driver.producer.kicks_sent
            hears += after.device.producer.kicks_sent - before.device.producer.kicks_sent
            theirs = await alone(socket.call)
            times.append((await alone(rings.call), theirs))
            looking.append((await alone(looks.call), theirs))
        before_idle = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(IDLE_SECONDS)
        after_idle = resource.getrusage(resource.RUSAGE_SELF)
    socket.close()
    used = after_idle.ru_utime + after_idle.ru_stime - before_idle.ru_utime - before_idle.ru_stime
    peer = "asyncio streams"
    # No transport can be faster than its event loop.
    floor = compare("the same, answered without a transport", "asyncio alone", bare, 0)
    return [
        compare(f"calls a second, {TASKS} tasks", peer, rates, 4),
        floor._replace(target=None, reached=None),
        Row("kicks sent to the device, for each request", kicks / asked),
        Row("kicks sent to the driver, for each answer", hears / asked),
        compare("one call at a time, p50 in us", peer, times, 1, less_is_better=True),
        compare("the same, max_poll=50e-6", peer, looking, 2, less_is_better=True),
        below("CPU of the driver while idle, percent", [100 * used / IDLE_SECONDS], 1),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    options = parser.parse_args()
    cpus = choose_pair()
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        ready, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        device = context.Process(target=serve, args=(folder, cpus[1], options.loop, other))
        device.start()
        try:
            ready.recv()
            pin(cpus[0])
            rows = run(measure(folder, options.rounds), options.loop)
        finally:
            device.terminate()
            device.join()
    return show(rows, describe(cpus), options.json)


if __name__ == "__main__":
    sys.exit(main())
