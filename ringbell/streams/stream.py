# SPDX-License-Identifier: MIT
"""One end of a one-way stream, and how its producing side ends."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.channel.closing import Closing
from ringbell.process import describe
from ringbell.stats import Stats

if TYPE_CHECKING:
    from ringbell import _ends

    class _Stream(Closing, _ends.End): ...
else:
    _Stream = Closing  # the other base of a stream is one of the types of _ends


class Stream(_Stream):
    """One end of a one-way stream, which has a channel of its own."""

    __slots__ = ()

    @property
    def peer_pid(self) -> int:
        """The process id of the other side; 0 when it is in another PID namespace."""
        return self._channel.peer_pid

    def stats(self) -> Stats:
        """Read the indices and counters of both sides; also possible after close.

        The producer is the driver and its ring the doorbell ring: `stats().driver.producer` and
        `stats().device.consumer` are the two ends.
        """
        return self._channel.stats()

    def close(self) -> None:
        """Say goodbye: the other side takes what was sent, then gets EndOfStream.

        Never waits for the other side; what was sent stays in shared memory until it is taken. Any
        thread and any signal handler may close. A call of this side that is running then ends with
        ChannelClosed. Closing twice does nothing.
        """
        self._channel.close()

    def _give_up(self) -> None:
        """Close because an exception leaves the block. Lent entries count as not taken."""
        if not self._channel.closed:
            lib.rb_lend(self._channel.handle, 0)
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._channel.closed else ""
        return f"<ringbell.{type(self).__name__}, other side is {describe(self.peer_pid)}{state}>"


class ProducingStream(Stream):
    """A stream that is given up, not closed, when an exception leaves its `with` block."""

    __slots__ = ()

    def close(self) -> None:
        """Say goodbye: the consumer takes what was sent, then gets EndOfStream.

        Never waits for the consumer; what was sent stays in shared memory until it is taken. If the
        consumer went away before it took everything, the rest is lost: the channel is closed, and
        then this raises what `check_consumer` raises. Any thread and any signal handler may close.
        A call of this side that is running then ends with ChannelClosed. Closing twice does nothing
        more.
        """
        lost = self._untold_loss()
        super().close()
        if lost:
            self._channel.fail(lost)

    def check_consumer(self) -> None:
        """Raise if the consumer went away before it took all that was sent.

        Raises EndOfStream when the consumer closed, PeerLost when it died; ChannelClosed after
        close. Does nothing if a call has raised that before. Does not block.
        """
        if self._channel.closed:
            self._channel.fail(-errno.EBADF)
        if lost := self._untold_loss():
            self._channel.fail(lost)

    def _untold_loss(self) -> int:
        return 0 if self._channel.closed else lib.rb_untold_loss(self._channel.handle)

    def _give_up(self) -> None:
        """Close without a goodbye.

        The consumer takes what was sent and then gets PeerLost, so it does not take half a stream
        for the whole.
        """
        self._channel.give_up()
