# SPDX-License-Identifier: MIT
"""The producing side of a stream of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ringbell import _ends
from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.ring.ends import ProducingEnd
from ringbell.streams.arrays import array_of, how_to_convert
from ringbell.streams.dtypes import restore
from ringbell.streams.rows import rows_at
from ringbell.streams.stream import ProducingStream
from ringbell.streams.values import from_values

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class RecordProducer(ProducingStream, ProducingEnd, _ends.RecordProducer):
    """Writes records of one dtype; made by `produce(name, dtype)`. A context manager.

    An exception that leaves its `with` block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()

    def __new__(cls, channel: Channel, dtype: np.dtype[Any], description: bytes) -> Self:
        """Produce the records of a channel; users call `produce`.

        `description` is what the consumer was told. Whoever has a dtype may rename its fields, so
        arrays are compared with a dtype that nobody else has, and the ring has one of its own, too.
        """
        slots = lib.rb_channel_my_slots(channel.handle)
        exact, of_ring = (restore(description, dtype.itemsize) for _ in range(2))
        rows = rows_at(channel.my_slots(), slots, of_ring)
        nested = any(dtype[name].base.names for name in dtype.names or ())
        return super().__new__(cls, channel, dtype, not nested and dtype.names, exact, rows)

    def _as_rows(self, rows: ArrayLike) -> NDArray[Any]:
        """Make an array of records of the rows that `write` was given, if they are none yet."""
        # In an array of sub-arrays, NumPy makes their shape a part of the array's shape.
        base, shape = self._exact.base, self._exact.shape
        array = array_of(rows)
        if array is None:
            array = from_values(rows, base)
        elif array.dtype != base:
            raise TypeError(
                f"the rows are of dtype {array.dtype}, the stream's records of {self._exact}; "
                + how_to_convert(array.dtype, base)
            )
        if array.shape == (0,):  # a list of nothing
            array = array.reshape(0, *shape)
        if array.ndim == len(shape):
            array = array[np.newaxis]
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            raise ValueError(
                f"rows are a one-dimensional array of records of {self._exact}, this one has the "
                f"shape {array.shape}"
            )
        return np.ascontiguousarray(array)
