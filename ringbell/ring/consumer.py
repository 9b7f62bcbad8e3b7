# SPDX-License-Identifier: MIT
"""The consuming end of a message ring."""

from __future__ import annotations

from ringbell._ends import MessageConsumer
from ringbell.ring.ends import ConsumingEnd


class Consumer(ConsumingEnd, MessageConsumer):
    """Receives messages from a ring; `device.doorbell` and `driver.interrupt` are consumers.

    `for view in consumer` borrows one message after the other until the other side closes, and
    raises PeerLost when it dies. For one thread at a time: a second one gets RuntimeError.
    """

    # Each method is a subscription and no call, so that a signal handler that raises cannot take
    # a message away on its way to the caller: see csrc/python/python.h.

    __slots__ = ()

    def recv(self, timeout: float | None = None) -> bytes:
        """Take the next message, as a copy.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds; EndOfStream when the
        other side has closed, PeerLost when it died, both after all that it sent has been taken;
        MessageTooLong for one that is longer than this side takes (the next call takes the one
        behind it); ChannelClosed after close.
        """
        return self._recv[timeout]

    def recv_many(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> list[bytes]:
        """Take all messages that have arrived, as copies, but at most `max` and 1,024.

        Blocks while there is none, so the list is never empty. The busier the other side, the
        longer the list. Raises ValueError for a `max` below 1, and what `recv` raises.
        """
        return self._recv_many[max, timeout]

    def borrow(self, timeout: float | None = None) -> memoryview:
        """Lend the next message where it lies in the ring, as a read-only view.

        Valid until the next call that takes something from this ring, which releases it; using it
        after that raises ValueError. A message larger than half the ring was put together in
        private memory. Blocks while there is none. Raises BufferError, and lends nothing, while a
        slice of the view lent before, or an array made from it, is alive, and what `recv` raises.
        """
        return self._borrow[timeout]
