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
    Overwritten if the writer has overwritten it meanwhile; what was computed from it is worth
    nothing then. That happens where a publication keeps the newest. Elsewhere it only happens to
    records when the block takes something else, because that gives back what the block was lent.
    Overwritten replaces an exception of the block, which may come from what was overwritten.
    """

    __slots__ = ("_end", "_index", "_what")

    def __init__(self, end: Subscribing) -> None:
        """Have nothing yet; `borrow` stores what it lends."""
        self._end = end
        self._what: _T  # with a codec it may be anything, None too
        self._index = 0

    def _lend(self, what: _T) -> None:
        """Store what the end has found just now."""
        self._what = what
        self._index = self._end._found()

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
            self._end._end_loan(self._index)
        except Overwritten:
            if kind is None or issubclass(kind, Exception):
                raise
        except ChannelClosed:  # in the block
            if not self._end._is_whole(self._index):
                self._end._channel.fail(-errno.ESTALE)
        except BufferError:
            if kind is None:
                raise
