# SPDX-License-Identifier: MIT
"""The side that sends requests and takes the answers."""

from __future__ import annotations

from ringbell import _ends
from ringbell._ends import Completion
from ringbell.calls.side import Side
from ringbell.channel.channel import Channel
from ringbell.process import describe
from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer


class Driver(Side, _ends.Driver):
    """Submits requests to a device and takes its completions; made by `connect`.

    For one thread at a time: a second thread gets RuntimeError. A context manager: the end of the
    block closes the channel. If an exception leaves the block, the device gets PeerLost.

    If a signal handler raises in the middle of a call (Ctrl-C), the channel stays usable. Answers
    to an interrupted `call` or `map` are dropped when they arrive. If `submit` was interrupted
    after it had sent the request, `reap` gives the completion.

    If the channel has a codec, requests and answers are objects. What cannot be encoded raises what
    the codec raises, and is not sent. So does the answer that cannot be decoded, in `call`, in the
    step of `map`, or in `Completion.result`.
    """

    __slots__ = ()

    @property
    def max_payload(self) -> int:
        """The longest payload in bytes that `reserve` can give in the ring: all of it."""
        return self.doorbell.max_payload

    def reap(self, timeout: float | None = None) -> Completion:
        """Take the next completion of a request made by `submit` or `reserve`, in any order.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds, and at once when no
        such request is in flight. When all completions have been taken, raises EndOfStream if the
        device closed, PeerLost if it died. Raises ChannelClosed after close.
        """
        # A subscript, not a call: csrc/python/python.h says why.
        return self._reap[timeout]

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else f"{self.in_flight} in flight"
        return f"<ringbell.Driver of {describe(self._channel.peer_pid)}, {state}>"


def drive(channel: Channel) -> Driver:
    """Make a driver of a channel that has been opened."""
    return Driver(Producer(channel), Consumer(channel))
