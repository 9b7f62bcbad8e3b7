# SPDX-License-Identifier: MIT
"""The consuming side of a stream, for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ringbell.aio.stream import Consuming

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ringbell.streams.messages import MessageConsumer as BlockingMessages
    from ringbell.streams.record_consumer import RecordConsumer as BlockingRecords


class MessageConsumer(Consuming):
    """Receives messages one way; made by `consume`. An asynchronous context manager.

    `async for view in consumer` borrows one message after the other until the producer closes. It
    raises PeerLost when the producer dies. For one task at a time: a second one gets RuntimeError.
    Cancelling a task that waits loses no message.
    """

    __slots__ = ()

    _end: BlockingMessages

    async def recv(self, timeout: float | None = None) -> bytes:
        """Take the next message, as a copy.

        Waits while there is none; other tasks run meanwhile. Raises RingEmpty after `timeout`
        seconds. When all that was sent has been taken, raises EndOfStream if the producer closed,
        PeerLost if it died. Raises MessageTooLong for a message that is longer than this side takes
        (the next call takes the message behind it); ChannelClosed after close; RuntimeError when
        another task waits here, or in another event loop.
        """
        return await self._taken(self._end._recv, 0, timeout)

    async def recv_many(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> list[bytes]:
        """Take all messages that have arrived, as copies: at most `max`, and at most 1,024.

        Waits while there is none, so the list is never empty. Raises ValueError for a `max` below
        1, and what `recv` raises.
        """
        return await self._taken(self._end._recv_many, (max, 0), timeout)

    async def borrow(self, timeout: float | None = None) -> memoryview:
        """Lend the next message where it lies in the ring, as a read-only view.

        The next call that takes something releases the view. Waits while there is none. Raises
        BufferError, and lends nothing, while a slice of the view lent before, or an array made from
        it, is alive. Raises what `recv` raises.
        """
        return await self._taken(self._end._borrow, 0, timeout)

    async def hold(self, timeout: float | None = None) -> bytes | memoryview:
        """Take the next message, to be kept for as long as you want.

        A message that the producer sent by reference (see `ringbell.Blocks`) is a read-only view of
        its block, which goes back when nothing made from the view is left. Any other message is
        copied, as bytes. Waits and raises as `recv` does.
        """
        return await self._taken(self._end._hold, 0, timeout)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> memoryview:
        # An object that was borrowed could not be taken back from the caller's loop.
        end = self._end
        view: memoryview = await self._next(end._recv if end._channel.codec else end._borrow, 0)
        return view


class RecordConsumer(Consuming):
    """Takes records of one dtype; made by `consume`. An asynchronous context manager.

    `async for rows in consumer` gives everything that has arrived as one array, again and again,
    until the producer closes. It raises PeerLost when the producer dies. For one task at a time: a
    second one gets RuntimeError. Cancelling a task that waits loses no record.
    """

    __slots__ = ()

    _end: BlockingRecords

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of one record; the producer chose it."""
        return self._end.dtype

    @property
    def capacity(self) -> int:
        """How many records the ring holds."""
        return self._end.capacity

    async def borrow(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Lend everything that has arrived, at most `max` records, as one read-only array.

        Nothing is copied. The next call that takes something gives the slots back, and then the
        content of the array may change; to keep the records, copy them: `rows.copy()`. Waits while
        there is nothing, so the array is never empty. Raises RingEmpty after `timeout` seconds.
        When all that was sent has been taken, raises EndOfStream if the producer closed, PeerLost
        if it died or gave up. Raises ValueError for a `max` below 1; ChannelClosed after close;
        RuntimeError when another task waits here, or in another event loop.
        """
        return await self._taken(self._end._borrow, (max, 0), timeout)

    async def read(
        self,
        max: int | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Take everything that has arrived, at most `max` records, as a copy.

        Waits while there is nothing, so the array is never empty. Raises what `borrow` raises.
        """
        return await self._taken(self._end._read, (max, 0), timeout)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> NDArray[Any]:
        rows: NDArray[Any] = await self._next(self._end._borrow, (None, 0))
        return rows
