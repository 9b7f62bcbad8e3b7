# SPDX-License-Identifier: MIT
"""Sending from tasks: one after the other, and a full ring suspends them.

No descriptor is readable when a ring has room. So a task that finds the ring full begins a thread,
which sleeps until there is room (for a driver: or until an answer has come). Meanwhile the end
belongs to that thread, also when the task has been cancelled: the thread passes the turn on then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ringbell._ends import Parts
from ringbell._ffi import lib
from ringbell.aio import threads
from ringbell.errors import RingFull

if TYPE_CHECKING:
    from ringbell.aio.loop import Future, Loop
    from ringbell.channel.channel import Channel

_T = TypeVar("_T")


def sleep_for(channel: Channel, want: int) -> None:
    """Sleep until something of `want` is there; the next attempt to use it tells of errors."""
    if not lib.rb_wait_poll(channel.handle, want, 0):
        lib.rb_wait_sleep(channel.handle, want, -1, -1)


class Sending:
    """The tasks that send through one end."""

    __slots__ = (
        "_away",
        "_back",
        "_left",
        "_lent",
        "_longest",
        "_loop",
        "_sleep",
        "_turns",
        "is_free",
    )

    def __init__(
        self,
        loop: Loop,
        sleep: Callable[[], object],
        longest: int,
        lent: Callable[[], None] | None = None,
        back: Callable[[], None] | None = None,
    ) -> None:
        """Wait for room by `sleep()` in a thread.

        A payload of more than `longest` bytes goes in pieces. Calls `lent()` before the end begins
        to belong to a thread, and `back()` when it does no longer.
        """
        self._loop = loop
        self._sleep = sleep
        self._longest = longest
        self._lent = lent
        self._back = back
        self.is_free: bool = True
        """Whether no task has the turn, and no thread whose task has left."""
        self._away = False  # a thread has the end
        self._left = False
        self._turns: deque[Future[None]] = deque()

    async def run(self, attempt: Callable[[float | None], _T], payload: object = None) -> _T:
        """Call `attempt(timeout)` when it is this task's turn and there is room.

        `payload` is what it sends, if that may have to go in pieces. A thread sends the pieces; it
        goes on when the task is cancelled.
        """
        if not self.is_free:
            await self._wait_for_turn()
        self.is_free = False
        try:
            while True:
                try:
                    return attempt(0)
                except RingFull:
                    pass
                if payload is not None and self._is_long(payload):
                    return await self._in_thread(lambda: attempt(None))
                await self._in_thread(self._sleep)
        finally:
            if self._away:
                self._left = True
            else:
                self._pass_on()

    async def _wait_for_turn(self) -> None:
        turn = self._loop.future()
        self._turns.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            elif turn in self._turns:
                self._turns.remove(turn)
            raise

    def _pass_on(self) -> None:
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.is_free = True

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        future: Future[_T] = self._loop.future()

        def arrived(result: _T) -> None:
            self._came_back()
            if not future.done():
                future.set_result(result)

        def failed(error: BaseException) -> None:
            self._came_back()
            if not future.done():
                future.set_exception(error)

        if self._lent is not None:
            self._lent()
        self._away = True
        threads.begin(self._loop, work, arrived, failed)
        return await future

    def _came_back(self) -> None:
        self._away = False
        if self._back is not None:
            self._back()
        if self._left:
            self._left = False
            self._pass_on()

    def _is_long(self, payload: Any) -> bool:  # noqa: ANN401
        if isinstance(payload, Parts):
            return len(payload) > self._longest
        try:
            return memoryview(payload).nbytes > self._longest
        except TypeError:  # a tensor: a thread can send any payload
            return True
