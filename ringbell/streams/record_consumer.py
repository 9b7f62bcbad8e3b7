# SPDX-License-Identifier: MIT
"""The consuming side of a stream of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ringbell import _ends
from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.ring.ends import ConsumingEnd
from ringbell.streams.rows import rows_at
from ringbell.streams.stream import Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RecordConsumer(Stream, ConsumingEnd, _ends.RecordConsumer):
    """Takes records of one dtype; made by `consume`. A context manager.

    `for rows in consumer` gives what has arrived, a whole array at a time, until the producer
    closes, and raises PeerLost when it dies.
    """

    __slots__ = ()

    def __new__(cls, channel: Channel, dtype: np.dtype[Any], checked: bool = False) -> Self:
        """Consume the records of a channel; users call `consume`."""
        slots = lib.rb_channel_memory(channel.handle).their_slots
        rows = rows_at(channel.their_slots(), slots, dtype)
        steps = None
        if checked:
            from ringbell.streams.checked import Steps

            steps = Steps(dtype)
        return super().__new__(cls, channel, dtype, rows, steps)

    def borrow(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Lend everything that has arrived, at most `max` records, as one read-only array.

        Nothing is copied: the array lies in the ring. The next call that takes something from this
        end releases it, and from then on its content may change; keep a copy, `rows.copy()`
        (`consume(..., checked=True)` finds where that was forgotten). Blocks while there is
        nothing, so the array is never empty. The busier the producer, the longer the array. Raises
        RingEmpty after `timeout` seconds; EndOfStream when the producer has closed, PeerLost when
        it died or gave up, both after all that it sent has been taken; ValueError for a `max` below
        1; ChannelClosed after close.
        """
        # A subscription and no call: see csrc/python/python.h.
        return self._borrow[max, timeout]

    def read(
        self,
        max: int | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> NDArray[Any]:
        """Take everything that has arrived, at most `max` records, as a copy.

        Blocks while there is nothing, so the array is never empty. Raises what `borrow` raises.
        """
        return self._read[max, timeout]
