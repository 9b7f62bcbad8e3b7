# SPDX-License-Identifier: MIT
"""A producer among those that a gather takes from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ringbell.process import describe
from ringbell.streams.messages import MessageConsumer

if TYPE_CHECKING:
    from ringbell.stats import ConsumerCounters
    from ringbell.streams.record_consumer import RecordConsumer

# A turn of records, in bytes: all that has arrived in a ring of the default size.
_TURN = 1 << 20


class GatheredProducer:
    """A producer that a gather takes from. The same object comes with all that it sent."""

    __slots__ = {  # noqa: RUF023  (what is shown comes first)
        "pid": "Of its process; 0 when it is in another PID namespace.",
        "since": "When it came, in seconds of `time.time()`.",
        "lost": "Whether it died or gave up. What it had sent by then has been taken.",
        "__weakref__": "",
        "_consumer": "",
        "_key": "",
        "_more": "",
        "_take": "",
    }

    def __init__(self, consumer: MessageConsumer | RecordConsumer) -> None:
        """Note who produces; only a gather makes these."""
        self._consumer = consumer
        self._take: Any = consumer._borrow
        self._key: Any = 0  # the timeout
        self._more: Any = None  # the messages that have arrived behind the one that is lent
        if isinstance(consumer, MessageConsumer):
            if consumer._channel.codec:
                # An object that was borrowed could not be taken back from the caller's loop.
                self._take = consumer._recv
            else:
                self._more = consumer._arrived()
        else:
            self._key = max(_TURN // consumer.dtype.itemsize, 1), 0
        self.pid: int = consumer.peer_pid
        self.since: float = time.time()
        self.lost: bool = False

    @property
    def entries(self) -> int:
        """How many messages or records of it have been taken, without those of the present step.

        A message larger than half the ring counts once for each of its pieces.
        """
        return self._counters().entries

    @property
    def bytes(self) -> int:
        """The bytes in these messages or records."""
        return self._counters().bytes

    def _counters(self) -> ConsumerCounters:
        return self._consumer.stats().device.consumer

    def __repr__(self) -> str:
        return f"<ringbell.GatheredProducer {describe(self.pid)}{', lost' if self.lost else ''}>"
