# SPDX-License-Identifier: MIT
"""The event loops that tests of ringbell.aio run in."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any

import pytest


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


LOOPS: list[Any] = ["asyncio"]
LOOPS += [
    pytest.param(name, marks=pytest.mark.variant)
    for name in ("uvloop", "trio")
    if importlib.util.find_spec(name)
]
