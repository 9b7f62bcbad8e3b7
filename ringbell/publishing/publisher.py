# SPDX-License-Identifier: MIT
"""The writing side of a publication."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ringbell.streams.messages import MessageProducer
from ringbell.streams.stream import ProducingStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ringbell.publishing.readers import Reader, Readers


class Publishing(ProducingStream):
    """What a publisher has that a producer has not: many readers."""

    __slots__ = ()

    # The two classes below have it as a slot: only one base of a class may have slots.
    _readers: Readers

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._readers.path

    @property
    def readers(self) -> list[Reader]:
        """The subscribers that are connected now, in the order of their arrival."""
        return self._readers.now()

    def check_consumer(self) -> None:
        """Do nothing: subscribers come and go, and no entry waits for a certain one.

        Raises ChannelClosed after close. `readers` says who is there.
        """
        if self._channel.closed:
            self._channel.fail(-errno.EBADF)

    def close(self) -> None:
        """Say goodbye, and free the name: the subscribers take what was sent, then EndOfStream.

        Never waits for them; what was sent stays in shared memory until they have taken it. Those
        of a publication that keeps the newest take what is whole. Any thread and any signal handler
        may close. A call of this side that is running then ends with ChannelClosed. Closing twice
        does nothing.
        """
        self._end(self._channel.close)

    def _give_up(self) -> None:
        """Close without a goodbye: the subscribers take what was sent, then get PeerLost."""
        self._end(self._channel.give_up)

    def _end(self, close: Callable[[], None]) -> None:
        # Nobody is let in while the descriptors are closed; and nobody is parted with before that.
        self._readers.stop()
        close()
        self._readers.close()

    def __repr__(self) -> str:
        state = ", closed" if self._channel.closed else ""
        count = len(self.readers)
        return f"<ringbell.{type(self).__name__} {self.path}, {count} subscribers{state}>"


class MessagePublisher(Publishing, MessageProducer):
    """Sends messages to many subscribers; made by `publish`. A context manager.

    An exception that leaves its `with` block gives the publication up: its subscribers get
    PeerLost.
    """

    __slots__ = ("_readers",)
