# SPDX-License-Identifier: MIT
"""What both sides of a stream have in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringbell._ffi import lib
from ringbell.aio.receiving import Receiving
from ringbell.aio.room import Sending, sleep_for
from ringbell.aio.side import Closing, OfLoop, no_room
from ringbell.errors import EndOfStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ringbell._ends import Coalescing
    from ringbell.policy import Moderation
    from ringbell.stats import Stats

    _T = TypeVar("_T")


class Stream(Closing):
    """One side of a stream, for the tasks of one event loop."""

    __slots__ = ()

    _end: Any

    @property
    def peer_pid(self) -> int:
        """The process id of the other side; 0 when it is in another PID namespace."""
        pid: int = self._end.peer_pid
        return pid

    def stats(self) -> Stats:
        """Read the indices and counters of both sides; also possible after close.

        The producer is the driver and its ring the doorbell ring.
        """
        stats: Stats = self._end.stats()
        return stats

    def __repr__(self) -> str:
        return repr(self._end).replace("<ringbell.", "<ringbell.aio.", 1)


class Producing(Stream, OfLoop):
    """The producing side of a stream."""

    __slots__ = ("_end", "_sending")

    def __init__(self, end: Any, longest: int) -> None:  # noqa: ANN401  (a producer of any kind)
        """Send through `end`, payloads of more than `longest` bytes by a thread."""
        super().__init__()
        self._end = end
        self._sending = Sending(self._loop, self._sleep, longest)

    def coalesce(
        self, max_entries: int | None = None, max_delay: float | None = None
    ) -> Coalescing:
        """Send one kick for all that the block sends, as the blocking `coalesce` does.

        `with producer.coalesce(max_delay=0.001): await ...`. An event loop's own wait sends no kick
        that was held back, so give `max_delay` if the block awaits anything.
        """
        coalescing: Coalescing = self._end.coalesce(max_entries, max_delay)
        return coalescing

    def check_consumer(self) -> None:
        """Raise if the consumer went away before it took all that was sent.

        Raises EndOfStream when the consumer closed, PeerLost when it died. Does not wait.
        """
        self._end.check_consumer()

    def close(self) -> None:
        """Say goodbye: the consumer takes what was sent, then gets EndOfStream.

        Never waits for the consumer. A task that waits for room gets ChannelClosed. Raises what
        `check_consumer` raises, once the channel is closed. Closing twice does nothing more.
        """
        self._end.close()

    def _give_up(self) -> None:
        self._end._give_up()

    def _sleep(self) -> None:
        """Sleep until there is room, inside of the end."""
        self._end._guarded(sleep_for, self._end._channel, lib.RB_SPACE)

    async def _sent(
        self, attempt: Callable[[float | None], _T], timeout: float | None, payload: object = None
    ) -> _T:
        """Give `attempt(0)` as soon as there is room."""
        if self._has_to_pause():
            await self._loop.pause()
        return await self._for(timeout, no_room, lambda: self._sending.run(attempt, payload))


class Consuming(Stream, Receiving):
    """The consuming side of a stream."""

    __slots__ = ()

    @property
    def moderation(self) -> Moderation | None:
        """When to wake this loop once it sleeps; None is at once. May be set at any time."""
        moderation: Moderation | None = self._end.moderation
        return moderation

    @moderation.setter
    def moderation(self, moderation: Moderation | None) -> None:
        self._end.moderation = moderation

    def close(self) -> None:
        """Say goodbye: the producer gets EndOfStream. Closing twice does nothing.

        A task that waits here gets ChannelClosed.
        """
        self._wake()
        self._end.close()

    def _give_up(self) -> None:
        self._wake()
        self._end._give_up()

    async def _next(self, taking: Any, key: object) -> Any:  # noqa: ANN401
        """Take the next of a loop; raises StopAsyncIteration at the end."""
        try:
            return await self._taken(taking, key, None)
        except EndOfStream:
            raise StopAsyncIteration from None
