# SPDX-License-Identifier: MIT
"""The side that does."""

from __future__ import annotations

from ringbell import _ends
from ringbell._ends import Request
from ringbell.calls.side import Side
from ringbell.channel.channel import Channel
from ringbell.process import describe
from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer


class Device(Side, _ends.Device):
    """Takes requests and completes them; made by `Listener.accept`.

    `for request in device` takes one after the other until the driver closes the channel, and
    raises PeerLost when it dies. Requests may be completed in any order; slots become free in
    theirs. For one thread at a time: a second one gets RuntimeError. A context manager; leaving it
    closes the channel. An exception that leaves it gives the channel up: the driver gets PeerLost.
    """

    __slots__ = ()

    def take(self, timeout: float | None = None) -> Request:
        """Take the next request.

        Blocks while there is none. A request that is longer than this side takes (`max_message`, or
        the memory there is) is answered with a failure, logged, and passed over. Raises RingEmpty
        after `timeout` seconds; EndOfStream when the driver has closed, PeerLost when it died, both
        after all that it sent has been taken; RuntimeError when every slot of the ring is held by
        requests that were taken and not completed, as then nothing can arrive; BufferError while a
        part of what `doorbell.borrow` lent is in use; ChannelClosed after close. Beside held
        requests only what fits into the rest of the ring can arrive: complete them before you wait
        for more.
        """
        # A subscription and no call: see csrc/python/python.h.
        return self._take[timeout]

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else "open"
        return f"<ringbell.Device of {describe(self._channel.peer_pid)}, {state}>"


def serve_channel(channel: Channel) -> Device:
    """Make a device of a channel that has been opened."""
    return Device(Consumer(channel), Producer(channel))
