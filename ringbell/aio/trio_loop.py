# SPDX-License-Identifier: MIT
"""The event loop of trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import trio

if TYPE_CHECKING:
    from ringbell.aio.loop import Start

_T = TypeVar("_T")


class _Future:
    """A result that is still to come; trio has no such class."""

    __slots__ = ("_cancelled", "_error", "_result", "_task", "_there")

    def __init__(self) -> None:
        self._there = False
        self._cancelled = False
        self._result: Any = None
        self._error: BaseException | None = None
        self._task: Any = None

    def done(self) -> bool:
        return self._there or self._cancelled

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        self._cancelled = True

    def set_result(self, result: object, /) -> None:
        self._result = result
        self._arrive()

    def set_exception(self, error: BaseException, /) -> None:
        self._error = error
        self._arrive()

    def _arrive(self) -> None:
        self._there = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)

    def _forget(self, _raise_cancel: object) -> Any:  # noqa: ANN401
        self._task = None
        self._cancelled = True
        return trio.lowlevel.Abort.SUCCEEDED

    def __await__(self) -> Generator[Any, Any, Any]:
        if not self._there:
            self._task = trio.lowlevel.current_task()
            yield from trio.lowlevel.wait_task_rescheduled(self._forget).__await__()
            self._task = None
        if self._error is not None:
            raise self._error
        return self._result


class TrioLoop:
    """See `Loop`."""

    __slots__ = ("_token", "_watched")

    def __init__(self) -> None:
        """Be the loop that runs; raises RuntimeError when none does."""
        self._token: Any = trio.lowlevel.current_trio_token()
        self._watched: dict[int, Callable[[], object]] = {}

    def is_running(self) -> bool:
        """Whether the caller is a task of this loop."""
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def future(self) -> _Future:
        """Make a future."""
        return _Future()

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor is readable."""
        self._watched[descriptor] = callback
        trio.lowlevel.spawn_system_task(self._watch, descriptor, callback)

    async def _watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        while self._watched.get(descriptor) is callback:
            try:
                await trio.lowlevel.wait_readable(descriptor)
            except trio.ClosedResourceError:
                return
            if self._watched.get(descriptor) is callback:
                callback()

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`."""
        if self._watched.pop(descriptor, None) is not None and self.is_running():
            trio.lowlevel.notify_closing(descriptor)

    def soon(self, callback: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
        """Call back in the loop."""
        self._token.run_sync_soon(callback, *arguments)

    async def pause(self) -> None:
        """Let the other tasks run."""
        await trio.lowlevel.checkpoint()

    async def within(self, seconds: float, awaitable: Awaitable[_T]) -> _T:
        """Await something, at most so long."""
        with trio.move_on_after(seconds):
            return await awaitable
        raise TimeoutError

    def is_of_another(self, _error: BaseException, /) -> bool:
        """Whether it is the cancelling of what this task awaited; trio has no such thing."""
        return False

    @asynccontextmanager
    async def tasks(self) -> AsyncIterator[Start]:
        """Give what starts tasks."""
        async with trio.open_nursery() as nursery:
            yield nursery.start_soon
