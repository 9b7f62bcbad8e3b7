# SPDX-License-Identifier: MIT
"""What `produce` and `consume` return has in common."""

from __future__ import annotations

from ringbell.channel import Channel
from ringbell.closing import Closing
from ringbell.in_use import in_use
from ringbell.stats import Stats


class Stream(Closing):
    """One end of a one-way stream, which has a channel of its own."""

    __slots__ = ()

    _channel: Channel
    inside: bool

    @property
    def peer_pid(self) -> int:
        """The process id of the other side."""
        return self._channel.peer_pid

    def stats(self) -> Stats:
        """Read the indices and counters of both sides; also possible after close.

        The producer is the driver and its ring the doorbell ring: `stats().driver.producer` and
        `stats().device.consumer` are the two ends.
        """
        return self._channel.stats()

    def close(self) -> None:
        """Say goodbye: the other side takes what was sent, then gets EndOfStream.

        Never blocks; what was sent stays in shared memory until the other side has taken it.
        Closing twice does nothing. Raises RuntimeError when another thread is inside.
        """
        if self.inside:
            raise in_use(self)
        self._channel.close()

    def __repr__(self) -> str:
        state = ", closed" if self._channel.closed else ""
        return f"<ringbell.{type(self).__name__}, other side is process {self.peer_pid}{state}>"
