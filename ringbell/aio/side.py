# SPDX-License-Identifier: MIT
"""What all objects of this package share: their loop, fairness, and how their block ends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from ringbell._ffi import lib
from ringbell.aio.loop import running_loop
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import RingEmpty, RingFull

if TYPE_CHECKING:
    from ringbell.aio.loop import Loop
    from ringbell.channel.channel import Channel

_T = TypeVar("_T")

_TURN = 0.001
"""Seconds. A task whose calls never have to wait gives way to the others so often."""

_VAIN_MOST = 6


class Closing:
    """An asynchronous context manager whose block ends as that of the blocking class ends."""

    __slots__ = ()

    def close(self) -> None:
        """Release everything. Closing twice does nothing."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Close because an exception leaves the block."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._give_up()


class OfLoop:
    """An object that belongs to the event loop in which it was made."""

    __slots__ = ("_gave_way", "_is_running", "_loop")

    def __init__(self) -> None:
        """Belong to the loop that runs."""
        self._loop: Loop = running_loop()
        self._is_running = self._loop.is_running
        self._gave_way = time.monotonic()

    def _check_loop(self) -> None:
        if not self._is_running():
            self._refuse_loop()

    def _refuse_loop(self) -> NoReturn:
        raise RuntimeError(
            f"this {type(self).__name__} belongs to another event loop, the one in which it was "
            "opened; open another one in this loop"
        )

    def _has_to_pause(self) -> bool:
        """Whether it is time to let other tasks run. Raises RuntimeError in another loop."""
        self._check_loop()
        now = time.monotonic()
        if now - self._gave_way <= _TURN:
            return False
        # Noted before the pause: a call that is cancelled in it must not pause again the next time.
        self._gave_way = now
        return True

    async def _for(
        self,
        timeout: float | None,
        late: Callable[[], Exception],
        function: Callable[[], Awaitable[_T]],
    ) -> _T:
        """Await `function()` for at most `timeout` seconds, then raise what `late` makes."""
        seconds = seconds_left(deadline_after(timeout))
        if seconds is None:
            return await function()
        try:
            return await self._loop.within(seconds, function())
        except (RingFull, RingEmpty):
            raise
        except TimeoutError:
            raise late() from None


def nothing_came() -> RingEmpty:
    """Make the error of a call that waited for data in vain."""
    return RingEmpty("nothing arrived within the timeout")


def no_room() -> RingFull:
    """Make the error of a call that waited for room in vain."""
    return RingFull("the ring stayed full within the timeout: the other side is slower than you")


class Looks:
    """Looks at shared memory for `max_poll` seconds before a task waits.

    A look holds up the loop. So after looks that found nothing, some waits go without one: 1, 3, 7
    and so on, up to 63 of them. csrc/poller.h does the same; it learns from sleeps as well, and
    here the loop is what sleeps.
    """

    __slots__ = ("_in_vain", "_rest", "may_look")

    def __init__(self, max_poll: float) -> None:
        """Look if `max_poll` is above 0; the channel knows how long."""
        self.may_look: bool = max_poll > 0
        self._in_vain = 0
        self._rest = 0

    def look(self, end: Any) -> int:  # noqa: ANN401  (a consuming end of any kind)
        """Give whether there is something to take, or an error to be told of."""
        if self._rest:
            self._rest -= 1
            return 0
        channel: Channel = end._channel
        found: int = end._guarded(lib.rb_wait_poll, channel.handle, lib.RB_DATA, -1)
        if found:
            self._in_vain = 0
        else:
            self._rest = (1 << self._in_vain) - 1
            self._in_vain = min(self._in_vain + 1, _VAIN_MOST)
        return found
