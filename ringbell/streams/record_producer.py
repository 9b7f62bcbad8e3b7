# SPDX-License-Identifier: MIT
"""The producing side of a stream of records."""

from __future__ import annotations

import errno
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell._ffi import ffi, lib
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import RingFull
from ringbell.ring.ends import ProducingEnd, in_use
from ringbell.streams.record_block import RecordBlock, rows_at
from ringbell.streams.stream import ProducingStream

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

_write = lib.rb_write
_EAGAIN = -errno.EAGAIN


class RecordProducer(ProducingStream, ProducingEnd):
    """Writes records of one dtype; made by `produce(name, dtype)`. A context manager.

    An exception that leaves its `with` block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ("_my_rows", "dtype")

    def __init__(self, channel: Channel, dtype: np.dtype[Any]) -> None:
        super().__init__(channel)
        self.dtype = dtype
        """Of one record."""
        self._my_rows = rows_at(channel.my_slots(), self.capacity, dtype)

    @property
    def capacity(self) -> int:
        """How many records the ring holds; `reserve` can give all of it."""
        return lib.rb_channel_my_slots(self._handle)

    def write(self, rows: ArrayLike, timeout: float | None = None) -> int:
        """Copy records into the ring, as many at a time as it has room for; return how many.

        `rows` is a one-dimensional array of the stream's dtype, or what NumPy makes one of it: a
        list, one record. The consumer sees them at once, and is kicked at most once for those that
        fit. Blocks while the ring is full. That is all of them, or those that were written when
        `timeout` seconds are over. Raises RingFull when none was, TypeError for an array of
        another dtype, ValueError for another shape, EndOfStream or PeerLost when nobody will take
        them, ChannelClosed after close; what was written before an exception arrives.
        """
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            if type(rows) is not np.ndarray or rows.dtype != self.dtype or rows.ndim != 1:
                rows = self._as_rows(rows)
            whole = np.ascontiguousarray(rows)
            count = len(whole)
            written = _write(self._handle, ffi.from_buffer(whole), count)
            return written if written == count else self._write_on(whole, written, timeout)
        finally:
            self.inside = False

    def reserve(self, count: int, timeout: float | None = None) -> RecordBlock:
        """Give room for `count` records, to be written in place.

        `with producer.reserve(1000) as rows: rows["price"] = ...` gives a writable array of the
        stream's dtype, publishes it at the end of the block and abandons it when an exception
        leaves the block. To publish fewer, keep the block: `block = producer.reserve(1000)`,
        `with block as rows: ...; block.count = 10`. Blocks while there is no room for all of them.
        Raises ValueError unless `count` is from 1 to `capacity`, RingFull after `timeout` seconds,
        RuntimeError when a block is reserved already, and what `write` raises.
        """
        if not 1 <= operator.index(count) <= self.capacity:
            raise ValueError(
                f"reserve gives from 1 to {self.capacity} records, what the ring can hold, not "
                f"{count}; make the stream with a larger ring_size, or use write"
            )
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            return self.reserve_slots(
                lib.rb_reserve_records,
                count,
                timeout,
                self.wait_for_room,
                lambda reservation, start: RecordBlock(
                    self._channel, reservation, self._my_rows[start : start + count]
                ),
            )
        finally:
            self.inside = False

    def _as_rows(self, rows: ArrayLike) -> NDArray[Any]:
        # NumPy takes an array of sub-arrays apart: their shape becomes the array's.
        base, shape = self.dtype.base, self.dtype.shape
        if isinstance(rows, np.ma.MaskedArray):
            raise TypeError("the rows are a masked array, and a mask is not sent; use filled()")
        if isinstance(rows, (np.ndarray, np.generic)):
            array = np.asarray(rows)
        else:
            _check_values(rows, base)
            array = np.array(rows, base)
        if array.dtype != base:
            raise TypeError(
                f"the rows are of dtype {array.dtype}, the stream's records of {self.dtype}; "
                "convert them, rows.astype(...)"
            )
        if array.shape == (0,):  # a list of nothing
            array = array.reshape(0, *shape)
        if array.ndim == len(shape):
            array = array[np.newaxis]
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            raise ValueError(
                f"rows are a one-dimensional array of records of {self.dtype}, this one has the "
                f"shape {array.shape}"
            )
        return array

    def _write_on(self, rows: NDArray[Any], status: int, timeout: float | None) -> int:
        """Finish what one call could not write, as `status` says."""
        deadline = deadline_after(timeout)
        start, size = ffi.from_buffer(rows), self.dtype.itemsize
        written, count = 0, len(rows)
        while True:
            if status >= 0:
                written += status
                if written == count:
                    return count
            elif status != _EAGAIN:
                self._channel.fail(status)
            else:
                try:
                    self.wait_for_room(deadline)
                except RingFull:
                    if written:
                        return written
                    raise
            status = _write(self._handle, start + written * size, count - written)


def _check_values(rows: ArrayLike, dtype: np.dtype[Any]) -> None:
    """Refuse fractions where NumPy would make whole numbers of them without a word."""
    if dtype.kind in "biu" and np.size(rows) and np.asarray(rows).dtype.kind in "fc":
        raise TypeError(
            f"the rows are fractions, the stream's records {dtype}; convert them, "
            f"np.array(rows, {str(dtype)!r})"
        )
