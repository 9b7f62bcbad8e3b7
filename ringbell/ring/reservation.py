# SPDX-License-Identifier: MIT
"""Room in a ring that is written in place."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING

from ringbell._ffi import lib

if TYPE_CHECKING:
    from ringbell._ffi import CData


class Reservation:
    """Published when its `with` block ends, abandoned when an exception leaves it.

    The base of `Frame` and `RecordBlock`.
    """

    __slots__ = ("_ended", "_handle", "_reservation")

    def __init__(self, handle: CData, reservation: int) -> None:
        self._ended = False
        self._handle = handle
        self._reservation = reservation

    def take_back(self) -> None:
        """Keep the user from writing to it any longer; raise BufferError if he still may."""
        raise NotImplementedError

    def publish(self) -> None:
        """Offer it to the other side."""
        raise NotImplementedError

    def _begin(self) -> None:
        if self._ended:
            raise RuntimeError("this was published or abandoned before; reserve once more")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish, or abandon when an exception passes.

        Raises BufferError, and publishes nothing, when what was lent is still in use; EndOfStream
        or PeerLost when nobody will take it.
        """
        try:
            if kind is None and not self._ended:
                self.take_back()
                self.publish()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give it up, so that nothing is published. Doing that twice does nothing."""
        if not self._ended:
            self._ended = True
            lib.rb_unreserve(self._handle, self._reservation)
            # Nobody writes into room that is no longer reserved, if that can be helped.
            with contextlib.suppress(BufferError):
                self.take_back()

    def __del__(self) -> None:
        # Reserved, but its block was never entered.
        self.abandon()
