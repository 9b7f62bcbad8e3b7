# SPDX-License-Identifier: MIT
"""The producing side of a stream, for tasks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ringbell.aio.side import no_room
from ringbell.aio.stream import Producing
from ringbell.codecs import prepared
from ringbell.errors import RingFull

if TYPE_CHECKING:
    from typing import Any

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from ringbell._ends import Frame, Payload, RecordBlock
    from ringbell.streams.messages import MessageProducer as BlockingMessages
    from ringbell.streams.record_producer import RecordProducer as BlockingRecords


class MessageProducer(Producing):
    """Sends messages one way; made by `produce`.

    Any number of tasks may send; their messages go out one after the other. An asynchronous context
    manager. An exception that leaves its block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()

    _end: BlockingMessages

    def __init__(self, end: BlockingMessages) -> None:
        """Send through `end`; users call `produce`."""
        super().__init__(end, end.max_payload // 2)

    @property
    def max_payload(self) -> int:
        """The longest message in bytes that `reserve` can give: all of the ring."""
        return self._end.max_payload

    async def send(self, payload: Payload, token: int = 0, timeout: float | None = None) -> None:
        """Copy one message (any contiguous buffer, of any size) into the ring.

        Waits while the ring is full, at most `timeout` seconds; other tasks run meanwhile. If the
        task is cancelled while it waits, nothing is sent. Only a message of more than half the ring
        is sent to its end then, because a thread sends its pieces.

        Raises RingFull when the time is over, EndOfStream or PeerLost when the consumer is gone,
        TypeError when the payload is no buffer, ChannelClosed after close.
        """
        if self._has_to_pause():
            await self._loop.pause()
        payload = prepared(self._end._channel.codec, payload)
        if self._sending.is_free:
            try:
                self._end.send(payload, token, 0)
                return
            except RingFull:
                pass
        await self._sent(
            lambda patience: self._end.send(payload, token, patience), timeout, payload
        )

    async def send_many(self, payloads: Iterable[Payload], timeout: float | None = None) -> int:
        """Copy many messages into the ring, as many at a time as fit; give how many.

        Waits while the ring is full. Gives fewer than all when `timeout` seconds are over. Raises
        RingFull when none was sent, and what `send` raises. Messages sent before an exception do
        arrive.
        """
        codec = self._end._channel.codec
        rest = [prepared(codec, payload) for payload in payloads] if codec else list(payloads)
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            while sent < len(rest):
                sent += await self._send_some(rest[sent:])

        try:
            await self._for(timeout, no_room, send_all)
        except RingFull:
            if not sent:
                raise
        return sent

    async def _send_some(self, payloads: list[Payload]) -> int:
        def attempt(patience: float | None) -> int:
            # A thread sends the first one alone, which is too long to go whole.
            return self._end.send_many(payloads if patience == 0 else payloads[:1], patience)

        return await self._sent(attempt, None, payloads[0])

    async def reserve(self, size: int, token: int = 0, timeout: float | None = None) -> Frame:
        """Give room for a message of up to `size` bytes, to be written in place.

        `with await producer.reserve(4096) as frame: frame.payload[:] = ...` publishes the message
        at the end of the block, as the blocking `reserve` does. Await nothing inside of the block
        that sends through this end. Waits while the ring is full. Raises ValueError when `size` is
        larger than `max_payload`, RingFull after `timeout` seconds, RuntimeError when a frame is
        reserved already, and what `send` raises.
        """
        return await self._sent(lambda patience: self._end.reserve(size, token, patience), timeout)


class RecordProducer(Producing):
    """Writes records of one dtype; made by `produce(name, dtype)`.

    Any number of tasks may write. An asynchronous context manager. An exception that leaves its
    block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()

    _end: BlockingRecords

    def __init__(self, end: BlockingRecords) -> None:
        """Write through `end`; users call `produce`."""
        super().__init__(end, 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of one record."""
        return self._end.dtype

    @property
    def capacity(self) -> int:
        """How many records the ring holds; `reserve` can give all of them."""
        return self._end.capacity

    async def write(self, rows: ArrayLike, timeout: float | None = None) -> int:
        """Copy records into the ring, as many at a time as fit; give how many.

        `rows` is what the blocking `write` takes, and the same errors are raised. Waits while the
        ring is full. Gives less than all when `timeout` seconds are over, or raises RingFull when
        none was written. Records written before an exception, or before the task was cancelled, do
        arrive. The records of two tasks that write at once may be mixed where the ring was full.
        """
        array = self._end._as_rows(rows)
        written = 0

        async def write_all() -> None:
            nonlocal written
            while True:
                written += await self._write_some(array[written:])
                if written >= len(array):
                    return

        try:
            await self._for(timeout, no_room, write_all)
        except RingFull:
            if not written:
                raise
        return written

    async def _write_some(self, rows: NDArray[Any]) -> int:
        return await self._sent(lambda patience: self._end.write(rows, patience), None)

    async def reserve(self, count: int, timeout: float | None = None) -> RecordBlock:
        """Give room for `count` records, to be written in place.

        `with await producer.reserve(1000) as rows: rows["price"] = ...` publishes the records at
        the end of the block, as the blocking `reserve` does. Await nothing inside of the block that
        sends through this end. Waits while there is no room for all of them. Raises ValueError
        unless `count` is from 1 to `capacity`, RingFull after `timeout` seconds, RuntimeError when
        a block is reserved already, and what `write` raises.
        """
        return await self._sent(lambda patience: self._end.reserve(count, patience), timeout)
