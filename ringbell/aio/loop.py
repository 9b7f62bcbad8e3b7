# SPDX-License-Identifier: MIT
"""What this package asks of an event loop."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")

Start = Callable[..., object]
"""Starts `function(*arguments)`, which is a coroutine function, as a task."""


class Future(Protocol[_T]):
    """A result that is still to come. One task waits for it."""

    def done(self) -> bool:
        """Whether it has come, or nobody waits any longer."""
        ...

    def cancelled(self) -> bool:
        """Whether nobody waits any longer."""
        ...

    def cancel(self) -> object:
        """Say that nobody waits any longer."""
        ...

    def set_result(self, result: _T, /) -> None:
        """Let the task go on."""
        ...

    def set_exception(self, error: BaseException, /) -> None:
        """Let the task go on with an exception."""
        ...

    def __await__(self) -> Generator[Any, Any, _T]: ...


class Loop(Protocol):
    """The event loop that a task runs in; `asyncio_loop.py` and `trio_loop.py` are the two."""

    def is_running(self) -> bool:
        """Whether the caller is a task of this loop."""
        ...

    def future(self) -> Future[Any]:
        """Make a future."""
        ...

    def watch(self, descriptor: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor is readable. The callback raises nothing."""
        ...

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`. Does nothing when the loop has ended."""
        ...

    def soon(self, callback: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401
        """Call back in the loop; from any thread. Raises RuntimeError when the loop has ended."""
        ...

    async def pause(self) -> None:
        """Let the other tasks run."""
        ...

    async def within(self, seconds: float, awaitable: Awaitable[_T]) -> _T:
        """Await something; raises TimeoutError when the time is over."""
        ...

    def is_of_another(self, error: BaseException, /) -> bool:
        """Whether it is the cancelling of what this task awaited, and not of this task."""
        ...

    def tasks(self) -> AbstractAsyncContextManager[Start]:
        """Give what starts tasks. The end of the block waits for all of them."""
        ...


def running_loop() -> Loop:
    """Give the event loop that the caller runs in; raises RuntimeError when there is none."""
    trio = sys.modules.get("trio")  # who runs it has loaded it
    if trio is not None and trio.lowlevel.in_trio_run():
        from ringbell.aio.trio_loop import TrioLoop

        return TrioLoop()
    from ringbell.aio.asyncio_loop import AsyncioLoop

    return AsyncioLoop()
