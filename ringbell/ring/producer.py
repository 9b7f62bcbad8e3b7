# SPDX-License-Identifier: MIT
"""The producing end of a message ring."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ringbell._ffi import ffi, lib
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import RingFull
from ringbell.ring.buffers import as_buffer, join
from ringbell.ring.ends import ProducingEnd, WaitForRoom, in_use
from ringbell.ring.frame import Frame

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ringbell._ffi import CData

_send = lib.rb_send
_send_many = lib.rb_send_many
_EAGAIN = -errno.EAGAIN
_EMSGSIZE = -errno.EMSGSIZE

# How much is sent in one step by send_many: messages, and bytes that are joined for it.
_BATCH = 1024
_JOINED = 1 << 18


class Producer(ProducingEnd):
    """Sends messages into a ring; `driver.doorbell` and `device.interrupt` are producers.

    For one thread at a time: a second one gets RuntimeError.
    """

    __slots__ = ("_batch", "_my_slots")

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._my_slots = channel.my_slots()
        # More would have to be joined again.
        self._batch = min(lib.rb_channel_my_slots(self._handle), _BATCH)

    @property
    def max_payload(self) -> int:
        """The longest payload in bytes that `reserve` can give: all of the ring."""
        return lib.rb_payload_max(self._handle)

    def send(self, payload: ReadableBuffer, token: int = 0, timeout: float | None = None) -> None:
        """Copy one message (any contiguous buffer, of any size) into the ring.

        Blocks while the ring is full, whatever arrives meanwhile (`Driver.submit` takes that in);
        a message larger than half the ring goes through it in pieces.
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
        ring is full. Short ones are joined for it: a copy more takes less than a call each. What it
        returns is all of them, or those that were sent when `timeout` seconds are over.
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
        """Send a message larger than half the ring; the other side puts it together again."""
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
        return self.reserve_slots(
            lib.rb_reserve,
            size,
            timeout,
            wait_for_room,
            lambda reservation, start: Frame(
                self._handle, reservation, self._my_slots, start, size, token, publish
            ),
        )

    def publish(self, reservation: int, length: int, token: int) -> None:
        """Publish the first `length` bytes of what was reserved."""
        status = lib.rb_commit(self._handle, reservation, length, token)
        if status:
            self._channel.fail(status)
