# SPDX-License-Identifier: MIT
"""What producers of messages and of records have in common."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ringbell._ffi import lib
from ringbell.channel import Channel, deadline_after
from ringbell.coalescing import Coalescing
from ringbell.errors import RingFull

if TYPE_CHECKING:
    from ringbell._ffi import CData

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
