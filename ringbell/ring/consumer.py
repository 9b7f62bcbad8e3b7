# SPDX-License-Identifier: MIT
"""The consuming end of a message ring."""

from __future__ import annotations

from ringbell._ends import MessageConsumer
from ringbell.ring.ends import ConsumingEnd


class Consumer(ConsumingEnd, MessageConsumer):
    """Receives messages from a ring; `device.doorbell` and `driver.interrupt` are consumers.

    `for view in consumer` borrows one message after the other until the other side closes. It
    raises PeerLost when the other side dies. For one thread at a time: a second thread gets
    RuntimeError.

    If the channel has a codec, these methods give objects, and the loop gives those of `recv`. They
    raise what the codec raises: the message is gone then, and the next call takes the next one. A
    signal handler that raises meanwhile (Ctrl-C) loses nothing.
    """

    # Each method is a subscript, not a call, so that no message is lost on its way to the caller
    # when a signal handler raises: see csrc/python/python.h.

    __slots__ = ()

    def recv(self, timeout: float | None = None) -> bytes:
        """Take the next message, as a copy.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds. When all that was sent
        has been taken, raises EndOfStream if the other side closed, PeerLost if it died. Raises
        MessageTooLong for a message that is longer than this side takes (the next call takes the
        message behind it); ChannelClosed after close.
        """
        return self._recv[timeout]

    def recv_many(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> list[bytes]:
        """Take all messages that have arrived, as copies: at most `max`, and at most 1,024.

        Blocks while there is none, so the list is never empty. A busy sender makes it longer.
        Raises ValueError for a `max` below 1, and what `recv` raises.
        """
        return self._recv_many[max, timeout]

    def borrow(self, timeout: float | None = None) -> memoryview:
        """Lend the next message where it lies in the ring, as a read-only view.

        The next call that takes something from this ring releases the view; using it after that
        raises ValueError. A message larger than half the ring lies in private memory instead, or in
        a block (see `Blocks`); what was made from such a view stays right, and keeps the block.
        Blocks while there is none. Raises BufferError, and lends nothing, while a slice of the
        view lent before, or an array made from it, is alive. Raises what `recv` raises.

        With a codec the decoder gets the view. With `codec="pickle"` the large arrays of the object
        are read-only views of the ring, and the next call raises BufferError while one is alive.
        """
        return self._borrow[timeout]

    def hold(self, timeout: float | None = None) -> bytes | memoryview:
        """Take the next message, to be kept for as long as you want.

        A message that the other side sent by reference (see `Blocks`) is not copied: this gives a
        read-only view of its block. NumPy, DLPack and pickle make arrays of it without a copy. The
        view stays readable whatever the other side does, also when either side has closed the
        channel or died. When nothing made from it is left, in any order, the other side may use the
        block again. Any other message is copied, as bytes. With a codec it gives the object, whose
        arrays are read-only views of the block. Waits and raises as `recv` does.
        """
        return self._hold[timeout]
