# SPDX-License-Identifier: MIT
"""An event loop of asyncio, or one that takes its place, such as uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ringbell.aio.loop import Future, Start

_T = TypeVar("_T")


class AsyncioLoop:
    """See `Loop`."""

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        """Be the loop that runs; raises RuntimeError when none does."""
        self._loop = asyncio.get_running_loop()

    def is_running(self) -> bool:
        """Whether the caller is a task of this loop."""
        return asyncio._get_running_loop() is self._loop

    def future(self) -> Future[Any]:
        """Make a future."""
        return self._loop.create_future()

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor is readable."""
        self._loop.add_reader(descriptor, callback)

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`."""
        if not self._loop.is_closed():
            self._loop.remove_reader(descriptor)

    def soon(self, callback: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
        """Call back in the loop."""
        self._loop.call_soon_threadsafe(callback, *arguments)

    async def pause(self) -> None:
        """Let the other tasks run."""
        await asyncio.sleep(0)

    async def within(self, seconds: float, awaitable: Awaitable[_T]) -> _T:
        """Await something, at most so long."""
        async with asyncio.timeout(seconds):
            return await awaitable

    def is_of_another(self, error: BaseException, /) -> bool:
        """Whether it is the cancelling of what this task awaited, and not of this task."""
        task = asyncio.current_task()
        return isinstance(error, asyncio.CancelledError) and not (task and task.cancelling())

    @asynccontextmanager
    async def tasks(self) -> AsyncIterator[Start]:
        """Give what starts tasks."""
        async with asyncio.TaskGroup() as group:

            def start(function: Callable[..., Any], *arguments: Any) -> object:  # noqa: ANN401
                coroutine = function(*arguments)
                try:
                    return group.create_task(coroutine)
                except RuntimeError:  # the group is being cancelled
                    coroutine.close()
                    raise

            yield start
