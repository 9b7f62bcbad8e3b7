# SPDX-License-Identifier: MIT
"""Taking from an end: a task waits until there is something."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ringbell.aio.side import Looks, OfLoop, nothing_came
from ringbell.errors import RingEmpty

if TYPE_CHECKING:
    from ringbell._ends import Taking
    from ringbell.aio.loop import Future

_Taken = TypeVar("_Taken")


class Receiving(OfLoop):
    """One task at a time takes from an end."""

    __slots__ = ("_end", "_fd", "_looks", "_waiter")

    def __init__(self, end: Any, max_poll: float) -> None:  # noqa: ANN401  (a consumer of any kind)
        """Take from `end`."""
        super().__init__()
        self._end = end
        self._fd: int = end.fileno()
        self._looks = Looks(max_poll)
        self._waiter: Future[None] | None = None

    async def _begin_to_take(self) -> None:
        if self._has_to_pause():
            await self._loop.pause()
        if self._waiter is not None:
            raise RuntimeError(
                f"another task waits in this {type(self).__name__} already; it is for one task at "
                "a time"
            )

    async def _taken(
        self, taking: Taking[Any, _Taken], key: object, timeout: float | None
    ) -> _Taken:
        """Give `taking[key]`, which does not wait, as soon as there is something."""
        await self._begin_to_take()
        with suppress(RingEmpty):
            return taking[key]
        if timeout is None:
            return await self._wait(taking, key)
        return await self._for(timeout, nothing_came, lambda: self._wait(taking, key))

    async def _wait(self, taking: Taking[Any, _Taken], key: object) -> _Taken:
        while True:
            if not self._looks.may_look or not self._looks.look(self._end):
                await self._readable()
            with suppress(RingEmpty):
                return taking[key]

    async def _readable(self) -> None:
        self._waiter = self._loop.future()
        self._loop.watch(self._fd, self._wake)
        try:
            await self._waiter
        finally:
            self._loop.unwatch(self._fd)
            self._waiter = None
        self._gave_way = time.monotonic()

    def _wake(self) -> None:
        # It stays readable until the task has taken, so it must not be watched meanwhile.
        self._loop.unwatch(self._fd)
        if self._waiter is not None and not self._waiter.done():
            with suppress(RuntimeError):  # the loop has been closed
                self._waiter.set_result(None)
