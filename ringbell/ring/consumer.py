# SPDX-License-Identifier: MIT
"""The consuming end of a message ring."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from ringbell._ffi import ffi, lib
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import EndOfStream
from ringbell.ring.buffers import lend, still_in_use, unfilled_bytes
from ringbell.ring.ends import ConsumingEnd, how_many, in_use

_recv = lib.rb_recv
_recv_many = lib.rb_recv_many
_take = lib.rb_take
_release = lib.rb_release
_MORE = lib.RB_FLAG_MORE
_CONTINUED = lib.RB_FLAG_CONTINUED
_EAGAIN = -errno.EAGAIN
_EMSGSIZE = -errno.EMSGSIZE


class Consumer(ConsumingEnd):
    """Receives messages from a ring; `device.doorbell` and `driver.interrupt` are consumers.

    For one thread at a time: a second one gets RuntimeError.

    A signal handler may raise after any call into C. So C gives a message again until `taken`
    says that it is safely in hand, and `taken` moves in a step that no handler can divide from
    the one before it.
    """

    __slots__ = (
        "_batch",
        "_batch_format",
        "_filled",
        "lent",
        "pieces",
        "scratch",
        "their_slots",
        "whole",
    )

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        # What borrow lent: the frame's index, the view, and the memory to take it back with.
        self.lent: tuple[int, memoryview, memoryview] | None = None
        self.pieces = b""  # of a message too long for one call
        self._filled = 0  # how many bytes of it are there
        # If they are all of it, to be handed out: its index, token and kind.
        self.whole: tuple[int, int, int] | None = None
        self.scratch = channel.memory(
            lib.rb_channel_scratch(channel.handle), lib.rb_channel_scratch_bytes()
        )
        self.their_slots = channel.their_slots()
        handle = channel.handle
        self._batch = channel.memory(lib.rb_channel_batch(handle), lib.rb_channel_batch_bytes())
        self._batch_format = channel.memory(
            lib.rb_channel_batch_format(handle), lib.rb_channel_batch_format_bytes()
        )

    def recv(self, timeout: float | None = None) -> bytes:
        """Take the next message, as a copy.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds; EndOfStream when the
        other side has closed, PeerLost when it died, both after all that it sent has been taken;
        ChannelClosed after close.
        """
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            if self.lent:
                self.give_back()
            length = 0
            if not self.whole:
                length = _recv(self._handle, self.taken, -1 if timeout is None else 0)
            if length < 0:
                # With a timeout of 0, to look once was all.
                length = self.get_ready(length, deadline_after(timeout), not timeout)
            if self.whole:
                payload = self.pieces
                self.pieces = b""
                self.whole = None
                return payload
            message: bytes = self.scratch[:length]
            self.taken += 1
            return message
        finally:
            self.inside = False

    def recv_many(
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> list[bytes]:
        """Take all messages that have arrived, as copies, but at most `max` and 1,024.

        Blocks while there is none, so the list is never empty. The busier the other side, the
        longer the list. Raises ValueError for a `max` below 1, and what `recv` raises.
        """
        most = how_many(max, lib.rb_channel_batch_messages())
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            if self.lent:
                self.give_back()
            deadline = deadline_after(timeout)
            count = 0
            while not self.whole:
                count = _recv_many(self._handle, self.taken, most, -1 if timeout is None else 0)
                if count >= 0:
                    return self._take_batch(count)
                if count == _EAGAIN:
                    self.wait_for_data(deadline, not timeout)
                elif count == _EMSGSIZE:
                    break
                else:
                    self._channel.fail(count)
            # The next one is too long for that, or recv was interrupted over it: as recv does it.
            length = 0 if self.whole else _recv(self._handle, self.taken, 0)
            if length < 0:
                length = self.get_ready(length, deadline, False)
            if self.whole:
                messages = [self.pieces]
                self.pieces = b""
                self.whole = None
                return messages
            messages = [self.scratch[:length]]
            self.taken += 1
            return messages
        finally:
            self.inside = False

    def borrow(self, timeout: float | None = None) -> memoryview:
        """Lend the next message where it lies in the ring, as a read-only view.

        Valid until the next call that takes something from this ring, which releases it; using it
        after that raises ValueError. A message larger than half the ring was put together in
        private memory. Blocks while there is none. Raises BufferError, and lends nothing, while a
        slice of the view lent before, or an array made from it, is alive, and what `recv` raises.
        """
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            return self._borrow(timeout)
        finally:
            self.inside = False

    def __iter__(self) -> Iterator[memoryview]:
        """Borrow messages until the other side closes; raise PeerLost when it dies."""
        while True:
            try:
                view = self.borrow()
            except EndOfStream:
                return
            yield view

    def _borrow(self, timeout: float | None) -> memoryview:
        if self.lent:
            self.give_back()
        flags = 0
        if not self.whole:
            flags = _take(self._handle, self.taken, -1 if timeout is None else 0)
        if flags:
            flags = self.get_frame(flags, deadline_after(timeout), not timeout, False)
        if self.whole:
            message = memoryview(self.pieces)
            self.lent = (-1, message, message)
            self.pieces = b""
            self.whole = None
            return message
        if flags:
            message = memoryview(self.scratch[: _recv(self._handle, self.taken, 0)])
            self.lent = (-1, message, message)
            self.taken += 1
            return message
        frame = self.frame
        index = frame.index
        view, memory = lend(self.their_slots, frame.start, frame.stop)
        # Last, and no call: a signal handler cannot come between these and the return.
        self.lent = (index, view, memory)
        self.taken += 1
        return view

    def give_back(self) -> None:
        """Release what borrow lent; BufferError when somebody still looks at it."""
        assert self.lent
        index, view, memory = self.lent
        try:
            view.release()
            memory.release()
        except BufferError:
            raise still_in_use("the message that was borrowed") from None
        if index >= 0:
            _release(self._handle, index)
        self.lent = None

    def _take_batch(self, count: int) -> list[bytes]:
        frame = self.frame
        sizes, batch = self._batch_format[: frame.stop], self._batch[: frame.start]
        # Not from the first one on, if a signal handler kept some of them from being taken before.
        first = frame.index
        messages = list(struct.unpack(sizes, batch)[first : first + count])
        self.taken += count
        return messages

    def get_ready(self, status: int, deadline: float | None, polled: bool) -> int:
        """Go on from a negative `status` of rb_recv until a message is there; return its length.

        It is in `pieces` if `whole` says so, else in `scratch`. With `polled`, rb_recv has polled.
        """
        while status < 0 and not self.whole:
            if status == _EMSGSIZE:
                self.add_piece(_take(self._handle, self.taken, 0))
                if self.whole:
                    break
            elif status == _EAGAIN:
                self.wait_for_data(deadline, polled)
                polled = False
            else:
                self._channel.fail(status)
            status = _recv(self._handle, self.taken, 0)
        return status

    def get_frame(self, flags: int, deadline: float | None, polled: bool, hold_last: bool) -> int:
        """Go on from what rb_take returned until a message is there.

        It is in the frame (0), or in `pieces` as `whole` says, or one that `recv` was interrupted
        over (-EMSGSIZE). The last frame of pieces can be left held.
        """
        while flags and not self.whole:
            if flags > 0:
                self.add_piece(flags, hold_last)
                if self.whole:
                    break
            elif flags == _EAGAIN:
                if lib.rb_all_held(self._handle):
                    raise RuntimeError(
                        "every slot of the doorbell ring is held by requests that were taken and "
                        "not completed, so no other can arrive; complete some of them first"
                    )
                self.wait_for_data(deadline, polled)
                polled = False
            elif flags == _EMSGSIZE:
                return flags
            else:
                self._channel.fail(flags)
            flags = _take(self._handle, self.taken, 0)
        return flags

    def add_piece(self, flags: int, hold_last: bool = False) -> None:
        """Copy the frame that rb_take gave to the pieces and release it.

        `whole` says then whether they are a whole message. Its last frame can be left held.
        """
        if flags < 0:
            self._channel.fail(flags)
        frame = self.frame
        index, more = frame.index, flags & _MORE
        start, stop = frame.start, frame.stop
        if not flags & _CONTINUED:
            # What was there before was given up by its sender half-way. The first of several
            # pieces has the length of the whole as its token.
            whole = frame.token if more else stop - start
            self.pieces = unfilled_bytes(whole)
            self._filled = 0
        if stop > start:
            target = ffi.from_buffer(self.pieces) + self._filled
            ffi.memmove(target, self.their_slots[start:stop], stop - start)
        # No call until the release, so no signal handler can come in between; what comes before
        # may be done twice.
        self._filled += stop - start
        self.whole = None if more else (index, frame.token, frame.kind)
        self.taken += 1
        if more or not hold_last:
            _release(self._handle, index)
