# SPDX-License-Identifier: MIT
"""What a driver and a device have in common and is not done for each message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringbell.channel.closing import Closing
from ringbell.stats import Stats

if TYPE_CHECKING:
    from ringbell import _ends

    class _Side(Closing, _ends.Side): ...
else:
    _Side = Closing  # the other base of a side is one of the types of _ends


class Side(_Side):
    """One side of a channel; the base of `Driver` and `Device`."""

    __slots__ = ()

    def stats(self) -> Stats:
        """Read the four indices and the counters of both sides; also possible after close."""
        return self._channel.stats()

    def close(self) -> None:
        """Say goodbye. The other side takes what was sent, then gets EndOfStream.

        Does not wait for requests in flight: a device drops its answers to a driver that closed,
        and a driver is told how many requests a device that closed has not answered. Never waits
        for the other side. Any thread may close, and a signal handler: a call that waits, or is at
        work, ends with ChannelClosed. Closing twice does nothing.
        """
        self._channel.close()

    def _give_up(self) -> None:
        """Close without a goodbye: the other side takes what was sent, then gets PeerLost."""
        self._channel.give_up()
