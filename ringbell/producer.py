# SPDX-License-Identifier: MIT
"""The producing end of a ring."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ringbell._ffi import ffi, lib
from ringbell.buffers import as_buffer, join
from ringbell.channel import Channel, deadline_after
from ringbell.coalescing import Coalescing
from ringbell.errors import RingFull
from ringbell.frame import Frame
from ringbell.in_use import in_use

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ringbell._ffi import CData

_send = lib.rb_send
_send_many = lib.rb_send_many
_SPACE = lib.RB_SPACE
_EAGAIN = -errno.EAGAIN
_EMSGSIZE = -errno.EMSGSIZE

# How much is sent in one step by send_many: messages, and bytes that are joined for it.
_BATCH = 1024
_JOINED = 1 << 18

WaitForRoom = Callable[[float | None], None]


class Producer:
    """Sends messages into a ring; `driver.doorbell` and `device.interrupt` are producers.

    For one thread at a time: a second one gets RuntimeError.
    """

    __slots__ = ("_batch", "_channel", "_handle", "_my_slots", "inside")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handle = channel.handle
        self._my_slots = channel.my_slots()
        # More would have to be joined again.
        self._batch = min(lib.rb_channel_ring_bytes(self._handle) // 64, _BATCH)
        # Whether a thread is inside. Nothing between looking at it and setting it is a call or a
        # jump back, so that the interpreter does not switch threads (or run a signal handler)
        # between the two. A lock would cost more than the message.
        self.inside = False

    @property
    def max_payload(self) -> int:
        """The longest payload in bytes that `reserve` can give: all of the ring."""
        return lib.rb_payload_max(self._handle)

    def send(self, payload: ReadableBuffer, token: int = 0, timeout: float | None = None) -> None:
        """Copy one message (any contiguous buffer, of any size) into the ring.

        Blocks while the ring is full, whatever arrives meanwhile (`Driver.submit` takes that in);
        a message larger than the ring goes through it in pieces.
        Raises RingFull after `timeout` seconds (then nothing of the message arrives), EndOfStream
        or PeerLost when nobody will take it, ChannelClosed after close.
        """
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            data = payload if type(payload) is bytes else as_buffer(payload)
            status = _send(self._handle, data, len(data), token, -1 if timeout is None else 0)
            if status:
                deadline = deadline_after(timeout)
                self.send_slowly(status, data, token, deadline, self.wait_for_room)
        finally:
            self.inside = False

    def send_many(self, payloads: Iterable[ReadableBuffer], timeout: float | None = None) -> int:
        """Copy many messages into the ring, as many at a time as it has room for; return how many.

        The other side sees those at once, and is kicked at most once for them. Blocks while the
        ring is full. That is all of them, or those that were sent when `timeout` seconds are over.
        Raises RingFull when none was, TypeError for what is not a buffer, and what `send` raises;
        what was sent before an exception arrives.
        """
        if self.inside:
            raise in_use(self)
        self.inside = True
        sent = 0
        try:
            deadline = deadline_after(timeout)
            todo = list(payloads)
            while sent < len(todo):
                sent += self._send_some(todo[sent : sent + self._batch], deadline)
        except RingFull:
            if not sent:
                raise
        finally:
            self.inside = False
        return sent

    def _send_some(self, payloads: list[ReadableBuffer], deadline: float | None) -> int:
        """Send at least the first one, and the others as far as there is room."""
        data, sizes = join(payloads, _JOINED)
        status = _EMSGSIZE
        if sizes:
            pointer = ffi.from_buffer("uint64_t[]", sizes)
            while (status := _send_many(self._handle, data, pointer, len(sizes))) == _EAGAIN:
                self.wait_for_room(deadline)
            if status > 0:
                return status
        # The first one is too long for that.
        buffer = as_buffer(payloads[0])
        if status == _EMSGSIZE:
            status = _send(self._handle, buffer, len(buffer), 0, 0)
        if status:
            self.send_slowly(status, buffer, 0, deadline, self.wait_for_room)
        return 1

    def reserve(self, size: int, token: int = 0, timeout: float | None = None) -> Frame:
        """Give room for a message of up to `size` bytes, to be written in place.

        Use it in a `with` block: `with producer.reserve(4096) as frame: frame.payload[:] = ...`
        publishes at its end, or abandons the message when an exception leaves the block. Blocks
        while the ring is full. Raises ValueError when `size` is larger than `max_payload`,
        RingFull after `timeout` seconds, RuntimeError when a frame is reserved already, and what
        `send` raises.
        """
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
            return self.reserve_frame(size, token, timeout, self.wait_for_room, self.publish)
        finally:
            self.inside = False

    def coalesce(
        self, max_entries: int | None = None, max_delay: float | None = None
    ) -> Coalescing:
        """Send what the block sends with one kick, at its end.

        `with producer.coalesce(): ...` holds kicks back until the block ends, by an exception
        too. They are sent earlier each time that `max_entries` entries (counted in frames) have
        been published, `max_delay` seconds after one was held back (by a timer, wherever this
        process is then), when the ring is full, and when a call of this side waits. An event loop
        is no such call: do not go back to it inside the block, or give `max_delay`. Does not block.
        Raises ValueError for bad bounds, RuntimeError inside another such block.
        """
        return Coalescing(self._channel, max_entries, max_delay)

    def wait_for_room(self, deadline: float | None) -> None:
        """Block until there is room for the message that was turned away."""
        if not self._channel.wait(_SPACE, deadline):
            raise ring_full()

    def send_slowly(
        self,
        status: int,
        payload: CData | bytes,
        token: int,
        deadline: float | None,
        wait_for_room: WaitForRoom,
    ) -> None:
        """Finish a message that one call could not send, as `status` says."""
        while status == _EAGAIN:
            wait_for_room(deadline)
            status = _send(self._handle, payload, len(payload), token, 0)
        if status == _EMSGSIZE:
            self.send_in_pieces(payload, token, lib.RB_MESSAGE, deadline, wait_for_room)
        elif status:
            self._channel.fail(status)

    def send_in_pieces(
        self,
        payload: CData | bytes,
        token: int,
        kind: int,
        deadline: float | None,
        wait_for_room: WaitForRoom,
    ) -> None:
        """Send a message larger than the ring; the other side puts it together again."""
        size, done = len(payload), 0
        try:
            while done < size:
                sent = lib.rb_send_piece(self._handle, payload, size, done, token, kind)
                if sent >= 0:
                    done = sent
                elif sent == _EAGAIN:
                    wait_for_room(deadline)
                else:
                    self._channel.fail(sent)
        except BaseException:
            lib.rb_send_abandon(self._handle)
            raise

    def reserve_frame(
        self,
        size: int,
        token: int,
        timeout: float | None,
        wait_for_room: WaitForRoom,
        publish: Callable[[int, int, int], None],
    ) -> Frame:
        """Reserve, with the caller's way to wait and to publish."""
        if not 0 <= size <= self.max_payload:
            raise ValueError(
                f"reserve gives from 0 to {self.max_payload} bytes, what the ring can hold, not "
                f"{size}; connect with a larger ring_size, or use a call that copies"
            )
        deadline = deadline_after(timeout)
        before = lib.rb_reservation(self._handle)
        try:
            while (start := lib.rb_reserve(self._handle, size)) == _EAGAIN:
                wait_for_room(deadline)
            if start < 0:
                self._channel.fail(start)
            reservation = lib.rb_reservation(self._handle)
            return Frame(self._handle, reservation, self._my_slots, start, size, token, publish)
        except BaseException:
            reservation = lib.rb_reservation(self._handle)
            if reservation != before:
                lib.rb_unreserve(self._handle, reservation)
            raise

    def publish(self, reservation: int, length: int, token: int) -> None:
        """Publish the first `length` bytes of what was reserved."""
        status = lib.rb_commit(self._handle, reservation, length, token)
        if status:
            self._channel.fail(status)


def ring_full() -> RingFull:
    """Say what a full ring means."""
    return RingFull(
        "the ring stayed full for the whole timeout: the other side takes nothing; "
        "the message was not sent"
    )
