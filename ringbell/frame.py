# SPDX-License-Identifier: MIT
"""A message that is written in place."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.buffers import Lender

if TYPE_CHECKING:
    from ringbell._ffi import CData


class Frame(Lender):
    """Room in the ring for one message; made by `reserve`, published when its `with` block ends."""

    __slots__ = ("_ended", "_handle", "_length", "_publish", "_size", "token")

    def __init__(
        self,
        handle: CData,
        memory: memoryview,
        start: int,
        size: int,
        token: int,
        publish: Callable[[int, int], None],
    ) -> None:
        self._ended = False
        self._handle = handle
        self._size = self._length = size
        self._publish = publish
        self.token = token
        self._lend(memory, start, start + size)

    @property
    def payload(self) -> memoryview:
        """Writable view of the reserved bytes. What was there before is undefined.

        Using it after the `with` block raises ValueError.
        """
        if self._view is None:
            raise ValueError("the frame has been published or abandoned; reserve another one")
        return self._view

    @property
    def length(self) -> int:
        """How many bytes of the payload will be published; at first all that were reserved."""
        return self._length

    @length.setter
    def length(self, length: int) -> None:
        if not 0 <= length <= self._size:
            raise ValueError(f"the frame holds from 0 to {self._size} bytes, not {length}")
        self._length = length

    def __enter__(self) -> Frame:
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
                self._publish(self._length, self.token)
        finally:
            self._abandon()

    def _abandon(self) -> None:
        if not self._ended:
            self._ended = True
            lib.rb_unreserve(self._handle)

    def __del__(self) -> None:
        # Reserved, but its block was never entered.
        self._abandon()
