# SPDX-License-Identifier: MIT
"""What all ends of a ring share, apart from the work for each message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringbell._ends import Coalescing
from ringbell.arguments import real_number, shown, whole_number
from ringbell.policy import Moderation

if TYPE_CHECKING:
    from ringbell._ends import End

    _End = End
else:
    _End = object  # the other base of an end is one of the types of _ends

_LONGEST_DELAY = 3600.0


class ProducingEnd(_End):
    """What every producing end can do, apart from sending."""

    __slots__ = ()

    def coalesce(
        self, max_entries: int | None = None, max_delay: float | None = None
    ) -> Coalescing:
        """Send one kick for all that the block sends, at its end.

        `with producer.coalesce(): ...` holds kicks back until the block ends, also when an
        exception ends it. A kick is sent earlier in four cases: `max_entries` entries (frames, or
        records) have been published since the last kick; the kick has been held back for
        `max_delay` seconds (a timer of the kernel sends it, whatever this process does then); the
        ring is full; a call of this side waits. An event loop's own wait is no such call: give
        `max_delay`, or do not return to the loop inside the block.
        Does not block. Raises TypeError or ValueError for bad bounds, RuntimeError inside another
        `coalesce` block of this end.
        """
        entries, delay_ns = 0, 0
        if max_entries is not None:
            complaint = "max_entries is at least 1, or None"
            entries = whole_number(max_entries, 1, 2**63 - 1, complaint)
        if max_delay is not None:
            complaint = f"max_delay is above 0 and at most {_LONGEST_DELAY:.0f} seconds, or None"
            seconds = real_number(max_delay, complaint)
            if not 0 < seconds <= _LONGEST_DELAY:
                raise ValueError(f"{complaint}, not {shown(max_delay)}")
            delay_ns = max(int(seconds * 1e9), 1)
        return Coalescing(self, entries, delay_ns)


class ConsumingEnd(_End):
    """What every consuming end can do, apart from receiving."""

    __slots__ = ()

    @property
    def moderation(self) -> Moderation | None:
        """When to wake this end once it sleeps; None is at once.

        The thread that uses the end may set it at any time. A new value counts from the next sleep
        on, or, after `fileno`, from the next call that finds the ring empty.
        """
        return self._channel.moderation

    @moderation.setter
    def moderation(self, moderation: Moderation | None) -> None:
        self._guarded(self._channel.moderate, moderation)

    def fileno(self) -> int:
        """Give a descriptor for `select`, `epoll` or an event loop.

        The descriptor becomes readable when there is something to take, or when the other side has
        gone. The other side's kick makes it readable; `moderation`, and the other side's
        `coalesce`, delay that kick. It stays readable until a call finds the ring empty (with
        `timeout=0` that call raises RingEmpty), so it may be readable once when there is nothing.
        The channel owns and closes the descriptor. Raises ChannelClosed after close.
        """
        descriptor: Any = self._guarded(self._channel.pollable)
        return int(descriptor)
