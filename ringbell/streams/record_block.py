# SPDX-License-Identifier: MIT
"""Records that are written in place."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.ring.reservation import Reservation

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RecordBlock(Reservation):
    """Room in the ring for records; made by `reserve`, published when its `with` block ends."""

    __slots__ = ("_channel", "_count", "rows")

    def __init__(self, channel: Channel, reservation: int, rows: NDArray[Any]) -> None:
        super().__init__(channel.handle, reservation)
        self._channel = channel
        self._count = len(rows)
        self.rows = rows
        """Writable array of the reserved records; what was there before is undefined. Writing to
        it after the `with` block raises ValueError."""

    @property
    def count(self) -> int:
        """How many of the records will be published, from the first; at first all of them."""
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        if not 0 <= operator.index(count) <= len(self.rows):
            raise ValueError(f"the block holds from 0 to {len(self.rows)} records, not {count}")
        self._count = count

    def __enter__(self) -> NDArray[Any]:
        """Give the array to write to. Raises RuntimeError when the block was used before."""
        self._begin()
        return self.rows

    def take_back(self) -> None:
        """Make the array read-only; views of it that exist already are beyond reach."""
        self.rows.flags.writeable = False

    def publish(self) -> None:
        """Offer the records."""
        status = lib.rb_commit_records(self._handle, self._reservation, self._count)
        if status:
            self._channel.fail(status)


def rows_at(memory: memoryview, slots: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Look at a ring's memory, two mappings of `slots` records in a row, as one array."""
    # By way of an array of bytes: NumPy goes past a memoryview to what that is a view of, and so
    # would let its user make an array writable again whose memory is not.
    return np.ndarray((2 * slots,), dtype=dtype, buffer=np.asarray(memory))
