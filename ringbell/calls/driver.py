# SPDX-License-Identifier: MIT
"""The side that asks."""

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

    For one thread at a time: a second one gets RuntimeError. A context manager; leaving it closes
    the channel. An exception that leaves it gives the channel up: the device gets PeerLost.

    If a signal handler raises in the middle of a call (Ctrl-C), the channel stays usable: what was
    asked for by `call` or `map` and not yet answered is dropped when its answer arrives, and what
    `submit` sent without being able to return its token comes out of `reap`.
    """

    __slots__ = ()

    @property
    def max_payload(self) -> int:
        """The longest payload in bytes that `reserve` can give: all of the ring."""
        return self.doorbell.max_payload

    def reap(self, timeout: float | None = None) -> Completion:
        """Take the next completion of a request made by `submit` or `reserve`, in any order.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds, and at once when no
        such request is in flight; EndOfStream or PeerLost when the device is gone and all that it
        completed has been taken; ChannelClosed after close.
        """
        # A subscription and no call: see csrc/python/python.h.
        return self._reap[timeout]

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else f"{self.in_flight} in flight"
        return f"<ringbell.Driver of {describe(self._channel.peer_pid)}, {state}>"


def drive(channel: Channel) -> Driver:
    """Make a driver of a channel that has been opened."""
    return Driver(Producer(channel), Consumer(channel))
