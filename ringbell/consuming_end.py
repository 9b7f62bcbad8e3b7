# SPDX-License-Identifier: MIT
"""What consumers of messages and of records have in common."""

from __future__ import annotations

import operator

from ringbell._ffi import lib
from ringbell.channel import Channel
from ringbell.errors import RingEmpty
from ringbell.moderation import Moderation

_DATA = lib.RB_DATA


class ConsumingEnd:
    """The consuming end of a ring; the base of `Consumer` and `RecordConsumer`.

    For one thread at a time: a second one gets RuntimeError.
    """

    __slots__ = ("_channel", "_handle", "frame", "inside", "taken")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handle = channel.handle
        self.frame = channel.frame
        self.taken = 0  # how many entries are safely in hand, or done
        self.inside = False  # see ProducingEnd

    @property
    def moderation(self) -> Moderation | None:
        """When this end wants to be woken once it sleeps; None is at once.

        May be set at any time by the thread that uses the end; counts from the next sleep on, or,
        after `fileno`, from the next time that a call finds the ring empty.
        """
        return self._channel.moderation

    @moderation.setter
    def moderation(self, moderation: Moderation | None) -> None:
        self._channel.moderate(moderation)

    def fileno(self) -> int:
        """Give a descriptor for `select`, `epoll` or an event loop, and keep it right from now on.

        It becomes readable when the other side kicks: when there is something to take (as late as
        `moderation` or the other side's `coalesce` say), or it has gone. It stays so until a call
        finds the ring empty (with `timeout=0` it raises RingEmpty), so it may be readable once for
        nothing. It belongs to the channel, which closes it. Raises ChannelClosed after close.
        """
        return self._channel.pollable()

    def wait_for_data(self, deadline: float | None, polled: bool = False) -> None:
        """Block until there is something to take."""
        if not self._channel.wait(_DATA, deadline, polled):
            raise RingEmpty("nothing arrived within the timeout")


def how_many(most: int | None, default: int) -> int:
    """Check the `max` of a call that takes several entries."""
    if most is None:
        return default
    if type(most) is int and 0 < most <= default:
        return most
    if operator.index(most) < 1:
        raise ValueError(f"max is how many to take, at least 1, not {most}")
    return min(most, default)
