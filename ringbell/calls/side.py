# SPDX-License-Identifier: MIT
"""What a driver and a device have in common."""

from __future__ import annotations

from ringbell.channel.channel import Channel
from ringbell.channel.closing import Closing
from ringbell.ring.consumer import Consumer
from ringbell.ring.ends import in_use
from ringbell.ring.producer import Producer
from ringbell.stats import Stats


class Side(Closing):
    """One side of a channel; the base of `Driver` and `Device`."""

    __slots__ = ("_channel", "_ends")

    def __init__(self, channel: Channel, producer: Producer, consumer: Consumer) -> None:
        self._channel = channel
        self._ends = (producer, consumer)

    def stats(self) -> Stats:
        """Read the four indices and the counters of both sides; also possible after close."""
        return self._channel.stats()

    def close(self) -> None:
        """Say goodbye. The other side takes what was sent, then gets EndOfStream.

        What is in flight is not waited for: a device drops the answers to a driver that closed,
        and a driver learns of what a device has not completed. Never blocks. Closing twice does
        nothing. Raises RuntimeError when another thread is inside.
        """
        producer, consumer = self._ends
        if producer.inside or consumer.inside:
            raise in_use(self)
        self._channel.close()
