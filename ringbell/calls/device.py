# SPDX-License-Identifier: MIT
"""The side that takes requests and answers them."""

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

    `for request in device` takes one request after the other until the driver closes the channel.
    It raises PeerLost when the driver dies. Requests may be completed in any order; their slots
    become free in the order of arrival. For one thread at a time: a second thread gets
    RuntimeError. A context manager: the end of the block closes the channel. If an exception leaves
    the block, the driver gets PeerLost.

    If the channel has a codec, `request.payload` is the object, and `request.complete` takes one.
    The first use of `request.payload` raises what the codec raises; such a request can be failed.
    """

    __slots__ = ()

    def take(self, timeout: float | None = None) -> Request:
        """Take the next request.

        Blocks while there is none. A request that is too long (for `max_message`, or for the memory
        available) is answered with a failure, logged and skipped. Requests that you have taken and
        not completed keep their slots, so only what fits into the rest of the ring can arrive:
        complete them before you wait for more.

        Raises RingEmpty after `timeout` seconds. When all that was sent has been taken, raises
        EndOfStream if the driver closed, PeerLost if it died. Raises RuntimeError when requests not
        yet completed hold every slot, so that nothing can arrive; BufferError while a part of the
        view that `doorbell.borrow` lent is in use; ChannelClosed after close.
        """
        # A subscript, not a call: csrc/python/python.h says why.
        return self._take[timeout]

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else "open"
        return f"<ringbell.Device of {describe(self._channel.peer_pid)}, {state}>"


def serve_channel(channel: Channel) -> Device:
    """Make a device of a channel that has been opened."""
    return Device(Consumer(channel), Producer(channel))
