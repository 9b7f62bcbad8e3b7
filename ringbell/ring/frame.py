# SPDX-License-Identifier: MIT
"""A message that is written in place."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from ringbell.ring.buffers import lend, still_in_use
from ringbell.ring.reservation import Reservation

if TYPE_CHECKING:
    from ringbell._ffi import CData


class Frame(Reservation):
    """Room in the ring for one message; made by `reserve`, published when its `with` block ends."""

    __slots__ = ("_length", "_memory", "_publish", "_size", "payload", "token")

    def __init__(
        self,
        handle: CData,
        reservation: int,
        ring: memoryview,
        start: int,
        size: int,
        token: int,
        publish: Callable[[int, int, int], None],
    ) -> None:
        super().__init__(handle, reservation)
        self._size = self._length = size
        self._publish = publish
        self.token = token
        self.payload, self._memory = lend(ring, start, start + size)
        """Writable view of the reserved bytes; what was there before is undefined. Using it after
        the `with` block raises ValueError."""

    @property
    def length(self) -> int:
        """How many bytes of the payload will be published; at first all that were reserved."""
        return self._length

    @length.setter
    def length(self, length: int) -> None:
        if not 0 <= operator.index(length) <= self._size:
            raise ValueError(f"the frame holds from 0 to {self._size} bytes, not {length}")
        self._length = length

    def __enter__(self) -> Self:
        """Begin to write. Raises RuntimeError when the frame has been used before."""
        self._begin()
        return self

    def take_back(self) -> None:
        """Release the payload; BufferError when a slice of it, or an array made from it, lives."""
        try:
            self.payload.release()
            self._memory.release()
        except BufferError:
            raise still_in_use("this frame") from None

    def publish(self) -> None:
        """Send the message."""
        self._publish(self._reservation, self._length, self.token)
