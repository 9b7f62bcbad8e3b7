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

    `for rows in consumer` gives everything that has arrived as one array, again and again, until
    the producer closes. It raises PeerLost when the producer dies.
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
        end gives the slots back, and then the content of the array may change. To keep the records,
        copy them: `rows.copy()`. `consume(..., checked=True)` finds uses after that step. Blocks
        while there is nothing, so the array is never empty. A busy producer makes it longer. Raises
        RingEmpty after `timeout` seconds. When all that was sent has been taken, raises EndOfStream
        if the producer closed, PeerLost if it died or gave up. Raises ValueError for a `max` below
        1; ChannelClosed after close.
        """
        # A subscript, not a call: csrc/python/python.h says why.
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
