# SPDX-License-Identifier: MIT
"""The consuming side of a stream of records."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell._ffi import ffi, lib
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import EndOfStream
from ringbell.ring.ends import ConsumingEnd, how_many, in_use
from ringbell.streams.record_block import rows_at
from ringbell.streams.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

_borrow = lib.rb_borrow
_read = lib.rb_read
_EAGAIN = -errno.EAGAIN
_EALREADY = -errno.EALREADY


class RecordConsumer(Stream, ConsumingEnd):
    """Takes records of one dtype; made by `consume`. A context manager.

    `for rows in consumer` gives what has arrived, a whole array at a time, until the producer
    closes. A signal handler may raise after any call into C, so C lends records again until
    `taken` says that they are done.
    """

    __slots__ = ("_copied", "_lent", "_their_rows", "capacity", "dtype")

    def __init__(self, channel: Channel, dtype: np.dtype[Any]) -> None:
        super().__init__(channel)
        self.dtype = dtype
        """Of one record; the producer chose it."""
        self.capacity = lib.rb_channel_their_bytes(self._handle) // dtype.itemsize
        """How many records the ring holds."""
        self._their_rows = rows_at(channel.their_slots(), self.capacity, dtype)
        self._lent = 0  # how many of the records after `taken` the user has been lent
        self._copied = np.empty(0, dtype)  # what read has copied and not handed out yet

    def borrow(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Lend everything that has arrived, at most `max` records, as one read-only array.

        Nothing is copied: the array lies in the ring, where its content may change once the next
        call that takes something from this end has released it; keep a copy, `rows.copy()`.
        Blocks while there is nothing, so the array is never empty. The busier the producer, the
        longer the array. Raises RingEmpty after `timeout` seconds; EndOfStream when the producer
        has closed, PeerLost when it died or gave up, both after all that it sent has been taken;
        ValueError for a `max` below 1; ChannelClosed after close.
        """
        most = how_many(max, self.capacity)
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            count = self._lend(most, timeout)
            if count == _EALREADY:
                copied = self._hand_out_copied(most)
                copied.flags.writeable = False
                return copied
            start = self.frame.start
            rows = self._their_rows[start : start + count]
            # Last, and no call: a signal handler cannot come between this and the return.
            self._lent = count
            return rows
        finally:
            self.inside = False

    def read(
        self,
        max: int | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Take everything that has arrived, at most `max` records, as a copy.

        Blocks while there is nothing, so the array is never empty. Raises what `borrow` raises.
        """
        most = how_many(max, self.capacity)
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            count = self._lend(most, timeout)
            if count == _EALREADY:
                return self._hand_out_copied(most)
            rows = np.empty(count, self.dtype)
            # Known before the call: if a signal handler raises after it, they are handed out next.
            self._copied = rows
            status = _read(self._handle, self.taken, ffi.from_buffer(rows), count)
            if status < 0:
                self._channel.fail(status)
            self.taken += count
            return rows
        finally:
            self.inside = False

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Borrow whole arrays until the producer closes; raise PeerLost when it dies."""
        while True:
            try:
                rows = self.borrow()
            except EndOfStream:
                return
            yield rows

    def _lend(self, most: int, timeout: float | None) -> int:
        """Release what was lent before and have C lend what comes next; return how many.

        -EALREADY when there are copied records to hand out first.
        """
        self.taken += self._lent
        self._lent = 0
        count = _borrow(self._handle, self.taken, most, -1 if timeout is None else 0)
        if count >= 0 or count == _EALREADY:
            return count
        deadline, polled = deadline_after(timeout), not timeout
        while count < 0:
            if count != _EAGAIN:
                self._channel.fail(count)
            self.wait_for_data(deadline, polled)
            polled = False
            count = _borrow(self._handle, self.taken, most, 0)
        return count

    def _hand_out_copied(self, most: int) -> NDArray[Any]:
        """Give what `read` had copied when it was interrupted."""
        rows, rest = self._copied[:most], self._copied[most:]
        count = len(rows)
        # No call from here on, so no signal handler comes between filing and taking.
        self._copied = rest
        self.taken += count
        return rows
