# SPDX-License-Identifier: MIT
"""The reading side of a publication."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ringbell._ffi import lib
from ringbell.publishing.lent import Lent
from ringbell.streams.messages import MessageConsumer
from ringbell.streams.stream import Stream


class Subscribing(Stream):
    """What a subscriber has that a consumer has not."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _give_back(self) -> None: ...

    @property
    def missed(self) -> int:
        """How many entries this side did not get, since it subscribed.

        Those that the writer overwrote before they were taken, and those that `latest` passed over.
        Counted when the next entry is taken, or before. So after each take, what was taken and what
        was missed are together all that was published from the entry at which this side began, up
        to the last entry taken.
        """
        return lib.rb_missed(self._channel.handle)

    def _is_whole(self, index: int) -> bool:
        return bool(lib.rb_reader_is_whole(self._channel.handle, index))

    def _end_loan(self, _index: int) -> None:
        """Give back what was borrowed. The view of one that was given back before is released."""
        self._give_back()

    def _keeps_newest(self) -> bool:
        return bool(lib.rb_reader_takes_newest(self._channel.handle))


class MessageSubscriber(Subscribing, MessageConsumer):
    """Receives the messages of a publication; made by `subscribe`. A context manager.

    `for message in subscriber` gives views, as a consumer does; or copies if the publication keeps
    the newest, because a view could be overwritten.
    If the writer lets this side go (`stall`), the next step says so, with LetGo: what the loop was
    lent before that may have been overwritten.
    """

    __slots__ = ()

    def latest(self, timeout: float | None = None) -> bytes | memoryview:
        """Take the newest message, as `hold` does, and pass over those before it.

        A copy; or, if the writer sent it by reference (see `Blocks`), a read-only view of its block
        that you may keep. If the newest message has been taken already, waits for a newer one.
        Raises what `recv` raises.
        """
        return self._latest[timeout]

    def borrow(self, timeout: float | None = None) -> Lent[memoryview]:  # type: ignore[override]
        """Lend the next message where it lies in the ring: `with subscriber.borrow() as view: ...`.

        Waits and raises as `recv` does. See `Lent`.
        """
        lent: Lent[Any] = Lent(self)
        lent._what = self._borrow[timeout]
        return lent

    def as_file(self) -> io.BufferedReader:
        """Give a binary file: the bytes of all messages, one after the other.

        As a consumer's. Raises ValueError where the publication keeps the newest: a file has no
        gaps.
        """
        if self._keeps_newest():
            raise ValueError(
                "a file has every byte, and this publication keeps the newest messages only; let "
                "the writer publish with keep='all'"
            )
        return super().as_file()
