# SPDX-License-Identifier: MIT
"""A message that is written in place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ringbell._ffi import lib
from ringbell.buffers import lend, still_in_use

if TYPE_CHECKING:
    from ringbell._ffi import CData


class Frame:
    """Room in the ring for one message; made by `reserve`, published when its `with` block ends."""

    __slots__ = (
        "_ended",
        "_handle",
        "_length",
        "_memory",
        "_publish",
        "_reservation",
        "_size",
        "payload",
        "token",
    )

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
        self._ended = False
        self._handle = handle
        self._size = self._length = size
        self._publish = publish
        self._reservation = reservation
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
        if not 0 <= length <= self._size:
            raise ValueError(f"the frame holds from 0 to {self._size} bytes, not {length}")
        self._length = length

    def __enter__(self) -> Self:
        """Begin to write. Raises RuntimeError when the frame has been used before."""
        if self._ended:
            raise RuntimeError("this frame was published or abandoned before; reserve another one")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish, or abandon when an exception passes.

        Raises BufferError, and publishes nothing, when a slice of the payload or an array made
        from it is still alive; EndOfStream or PeerLost when nobody will take the message.
        """
        try:
            if kind is None:
                self._take_back()
                self._publish(self._reservation, self._length, self.token)
        finally:
            self._abandon()

    def _take_back(self) -> None:
        try:
            self.payload.release()
            self._memory.release()
        except BufferError:
            raise still_in_use("this frame") from None

    def _abandon(self) -> None:
        if not self._ended:
            self._ended = True
            lib.rb_unreserve(self._handle, self._reservation)
            # Nobody writes into room that is no longer reserved, if that can be helped.
            with contextlib.suppress(BufferError):
                self._take_back()

    def __del__(self) -> None:
        # Reserved, but its block was never entered.
        self._abandon()
