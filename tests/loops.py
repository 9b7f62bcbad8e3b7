# SPDX-License-Identifier: MIT
"""The event loops that tests of ringbell.aio run in."""

from __future__ import annotations

import asyncio
import importlib.util
import select
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from ringbell.aio.loop import running_loop

# In the device's process.
ANSWERS = """
def answers(count):
    '''Take so many requests, and only then answer them, the last one first.'''
    taken = [device.take() for _ in range(count)]
    with device.interrupt.coalesce():
        for request in reversed(taken):
            request.complete(bytes(request.payload).upper())
"""


def run(kind: str, main: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
    """Run `main(*arguments)` in a new loop."""
    if kind == "trio":
        import trio

        return trio.run(main, *arguments)
    if kind == "uvloop":
        import uvloop

        return uvloop.run(main(*arguments))
    return asyncio.run(main(*arguments))


async def sleep(kind: str, seconds: float) -> None:
    if kind == "trio":
        import trio

        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)


async def until(kind: str, condition: Callable[[], object]) -> None:
    """Wait without a limit of its own: the test's timeout is what means "hung"."""
    while not condition():
        await sleep(kind, 0.001)


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


async def gather(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """What each gives or raises, in order."""
    calls = list(calls)
    results = [None] * len(calls)

    async def one(number, call):
        try:
            results[number] = await call
        except (Exception, asyncio.CancelledError) as error:
            results[number] = error

    async with running_loop().tasks() as start:
        for number, call in enumerate(calls):
            start(one, number, call)
    return results


LOOPS: list[Any] = ["asyncio"]
LOOPS += [
    pytest.param(name, marks=pytest.mark.variant)
    for name in ("uvloop", "trio")
    if importlib.util.find_spec(name)
]
