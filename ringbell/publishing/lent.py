# SPDX-License-Identifier: MIT
"""What a subscriber borrows."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ringbell.errors import ChannelClosed, Overwritten

if TYPE_CHECKING:
    from ringbell.publishing.subscriber import Subscribing

_T = TypeVar("_T")


class Lent(Generic[_T]):
    """What a subscriber's `borrow` gives: a context manager for what lies in the ring.

    `with subscriber.borrow() as rows: ...`. The end of the block gives it back. It raises
    Overwritten if the writer has overwritten it meanwhile, which only happens where a publication
    keeps the newest; what was computed from it is worth nothing then. That replaces an exception of
    the block, which may come from what was overwritten.
    """

    __slots__ = ("_end", "_what")

    def __init__(self, end: Subscribing) -> None:
        """Have nothing yet; `borrow` stores what it lends."""
        self._end = end
        self._what: _T  # with a codec it may be anything, None too

    def __enter__(self) -> _T:
        """Give what was lent: a read-only view, or a read-only array."""
        try:
            what = self._what
            del self._what
        except AttributeError:
            raise RuntimeError("a loan is for one with block; borrow again") from None
        return what

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give it back; raises Overwritten if the writer has overwritten it meanwhile.

        Raises BufferError while a slice of a view, or an array made from it, is alive.
        """
        try:
            self._end._give_back()
        except Overwritten:
            if kind is None or issubclass(kind, Exception):
                raise
        except ChannelClosed:  # in the block
            if not self._end._is_whole():
                self._end._channel.fail(-errno.ESTALE)
        except BufferError:
            if kind is None:
                raise
