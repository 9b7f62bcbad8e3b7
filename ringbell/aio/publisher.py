# SPDX-License-Identifier: MIT
"""The writing side of a publication, for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringbell.aio.producer import MessageProducer, RecordProducer
from ringbell.aio.stream import Producing

if TYPE_CHECKING:
    from pathlib import Path

    from ringbell.meeting.segment import Keep
    from ringbell.publishing.publisher import MessagePublisher as BlockingMessages
    from ringbell.publishing.readers import Reader


class Publishing(Producing):
    """What a publisher has that a producer has not: many readers."""

    __slots__ = ()

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        path: Path = self._end.path
        return path

    @property
    def readers(self) -> list[Reader]:
        """The subscribers that are connected now, in the order of their arrival."""
        readers: list[Reader] = self._end.readers
        return readers

    def check_consumer(self) -> None:
        """Do nothing: subscribers come and go, and no entry waits for a certain one.

        Raises ChannelClosed after close. `readers` says who is there.
        """
        self._end.check_consumer()

    def close(self) -> None:
        """Say goodbye, and free the name: the subscribers take what was sent, then EndOfStream.

        Never waits for them. A task that waits for room gets ChannelClosed. Closing twice does
        nothing.
        """
        self._end.close()


class MessagePublisher(Publishing, MessageProducer):
    """Sends messages to many subscribers; made by `publish`.

    Any number of tasks may send; their messages go out one after the other. An asynchronous context
    manager. An exception that leaves its block gives the publication up: its subscribers get
    PeerLost.
    """

    __slots__ = ()

    def __init__(self, end: BlockingMessages, keep: Keep) -> None:
        """Send through `end`; users call `publish`."""
        # One that keeps the newest sends nothing through the ring in pieces.
        longest = end.max_payload if keep == "newest" else end.max_payload // 2
        Producing.__init__(self, end, longest)


class RecordPublisher(Publishing, RecordProducer):
    """Writes records for many subscribers; made by `publish(name, dtype)`.

    Any number of tasks may write. An asynchronous context manager. An exception that leaves its
    block gives the publication up: its subscribers get PeerLost.
    """

    __slots__ = ()
