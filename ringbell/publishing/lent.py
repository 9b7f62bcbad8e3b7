# SPDX-License-Identifier: MIT
"""What a subscriber borrows."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ringbell import _ends
from ringbell.errors import ChannelClosed, Overwritten

_T = TypeVar("_T")

if TYPE_CHECKING:
    _Lent = _ends.Lent
else:

    class _Lent(_ends.Lent, Generic[_T]):
        __slots__ = ()


class Lent(_Lent[_T]):
    """What a subscriber's `borrow` gives: a context manager for what lies in the ring.

    `with subscriber.borrow() as rows: ...`. The end of the block gives it back. It raises
    Overwritten if the writer has overwritten it meanwhile; what was computed from it is worth
    nothing then. That happens where a publication keeps the newest. Elsewhere it only happens to
    records when the block takes something else, because that gives back what the block was lent.
    Overwritten replaces an exception of the block, which may come from what was overwritten.
    """

    # `borrow` stores what it lends in `_what`; how it gets from there into the block is told in
    # csrc/python/lent.c, which also notes where it lies.

    __slots__ = ()

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
