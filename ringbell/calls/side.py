# SPDX-License-Identifier: MIT
"""What a driver and a device share, apart from the work for each message."""

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

        Never waits for the other side or for requests in flight. If the driver closes, the device
        drops the answers. If the device closes, the driver's EndOfStream says how many requests
        have no answer. Any thread and any signal handler may close. A call of this side that is
        running then ends with ChannelClosed. Closing twice does nothing.
        """
        self._channel.close()

    def _give_up(self) -> None:
        """Close without a goodbye: the other side takes what was sent, then gets PeerLost."""
        self._channel.give_up()
