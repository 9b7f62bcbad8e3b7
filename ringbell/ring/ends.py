# SPDX-License-Identifier: MIT
"""What the ends of a ring have in common, whatever its slots hold."""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import RingEmpty, RingFull
from ringbell.policy import Moderation
from ringbell.ring.coalescing import Coalescing

if TYPE_CHECKING:
    from ringbell._ffi import CData


def in_use(end: object) -> RuntimeError:
    """Say that an end is for one thread at a time."""
    return RuntimeError(
        f"this {type(end).__name__} is in use: another thread (or the code that this signal "
        "handler interrupted) is inside it; an end is for one thread at a time"
    )


_SPACE = lib.RB_SPACE
_EAGAIN = -errno.EAGAIN

WaitForRoom = Callable[[float | None], None]
_Reservation = TypeVar("_Reservation")


class ProducingEnd:
    """The producing end of a ring; the base of `Producer` and `RecordProducer`.

    For one thread at a time: a second one gets RuntimeError.
    """

    __slots__ = ("_channel", "_handle", "inside")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handle = channel.handle
        # Whether a thread is inside. Nothing between looking at it and setting it is a call or a
        # jump back, so that the interpreter does not switch threads (or run a signal handler)
        # between the two. A lock would cost more than the message.
        self.inside = False

    def coalesce(
        self, max_entries: int | None = None, max_delay: float | None = None
    ) -> Coalescing:
        """Send what the block sends with one kick, at its end.

        `with producer.coalesce(): ...` holds kicks back until the block ends, by an exception
        too. They are sent earlier each time that `max_entries` entries (counted in frames, or in
        records) have been published, `max_delay` seconds after one was held back (by a timer,
        wherever this process is then), when the ring is full, and when a call of this side waits.
        An event loop is no such call: do not go back to it inside the block, or give `max_delay`.
        Does not block. Raises ValueError for bad bounds, RuntimeError inside another such block.
        """
        return Coalescing(self._channel, max_entries, max_delay)

    def wait_for_room(self, deadline: float | None) -> None:
        """Block until there is room for what was turned away."""
        if not self._channel.wait(_SPACE, deadline):
            raise ring_full()

    def reserve_slots(
        self,
        reserve: Callable[[CData, int], int],
        size: int,
        timeout: float | None,
        wait_for_room: WaitForRoom,
        make: Callable[[int, int], _Reservation],
    ) -> _Reservation:
        """Reserve by `reserve(handle, size)`; return `make(name of the reservation, start)`."""
        deadline = deadline_after(timeout)
        before = lib.rb_reservation(self._handle)
        try:
            while (start := reserve(self._handle, size)) == _EAGAIN:
                wait_for_room(deadline)
            if start < 0:
                self._channel.fail(start)
            return make(lib.rb_reservation(self._handle), start)
        except BaseException:
            reservation = lib.rb_reservation(self._handle)
            if reservation != before:
                lib.rb_unreserve(self._handle, reservation)
            raise


def ring_full() -> RingFull:
    """Say what a full ring means."""
    return RingFull(
        "the ring stayed full for the whole timeout: the other side takes nothing; nothing was sent"
    )


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
