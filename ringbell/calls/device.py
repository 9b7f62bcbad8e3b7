# SPDX-License-Identifier: MIT
"""The side that does, and a request in its hands."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.calls.side import Side
from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after
from ringbell.errors import EndOfStream, RingFull
from ringbell.ring.buffers import as_buffer, still_in_use
from ringbell.ring.consumer import Consumer
from ringbell.ring.ends import in_use
from ringbell.ring.producer import Producer

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ringbell._ffi import CData

_complete = lib.rb_complete
_MESSAGE = lib.RB_MESSAGE
_FAILURE = lib.RB_FAILURE


class Request:
    """A request that a device has taken and has to complete or fail, in any order.

    Until then its slots stay in use; the ring goes round only as far as the oldest of them.
    """

    __slots__ = ("_device", "_index", "_memory", "_place", "payload", "token")

    def __init__(
        self,
        device: Device,
        index: int,
        token: int,
        ring: memoryview,
        start: int,
        stop: int,
    ) -> None:
        self._device = device
        self._index = index
        self._place = (ring, start, stop)
        self._memory = memory = ring[start:stop]
        self.token = token
        """The driver's name for the request, 64 bits."""
        self.payload = memoryview(PickleBuffer(memory))  # see buffers.lend
        """Read-only view of the request's bytes, where they lie in shared memory.

        Valid until the request is completed; using it after that raises ValueError. A request
        larger than half the ring was put together in private memory, and this is a view of that."""

    def complete(
        self, payload: ReadableBuffer = b"", timeout: float | None = None, *, ok: bool = True
    ) -> None:
        """Answer with any contiguous buffer, of any size; also with the request's own payload.

        A piece of the payload that is the answer is released with it. A message that was sent
        without a token wants no completion: it is only released.
        Blocks while the interrupt ring is full. With `ok=False` the answer is a failure, see
        `fail`. Raises BufferError while a slice of the payload or an array made from it is alive,
        RuntimeError when the request has been answered before, RingFull after `timeout` seconds
        (the request is still to be completed then), PeerLost when the driver died. If the driver
        closed the channel it wants no answers, and this one is dropped.
        """
        device = self._device
        doorbell, interrupt = device.doorbell, device.interrupt
        if doorbell.inside or interrupt.inside:
            raise in_use(device)
        doorbell.inside = interrupt.inside = True
        try:
            answer = payload if type(payload) is bytes else self._as_answer(payload)
            size = len(answer)
            try:
                self.payload.release()
                self._memory.release()
            except BufferError:
                self._lend_again(self._memory)
                raise still_in_use(f"request {self.token}") from None
            kind = _MESSAGE if ok else _FAILURE
            status = _complete(device.handle, self._index, answer, size, kind)
            if status:
                try:
                    device.answer_slowly(self.token, self._index, status, answer, kind, timeout)
                except RingFull:
                    ring, start, stop = self._place
                    self._memory = ring[start:stop]
                    self._lend_again(self._memory)
                    raise
        finally:
            doorbell.inside = interrupt.inside = False

    def fail(self, text: str, timeout: float | None = None) -> None:
        """Answer that the request cannot be done, and why; the driver gets RequestFailed.

        Otherwise like `complete`.
        """
        self.complete(text.encode(errors="backslashreplace"), timeout, ok=False)

    def lent_before(self, payload: memoryview, memory: memoryview) -> None:
        """Answer for a view that was lent before the request was made, instead of one's own."""
        self.payload, self._memory = payload, memory

    def _as_answer(self, payload: ReadableBuffer) -> CData | bytes:
        if type(payload) is memoryview and payload.obj is self._memory:
            # A piece of the request itself has to end with it.
            answer = bytes(payload)
            payload.release()
            return answer
        return as_buffer(payload)

    def _lend_again(self, memory: memoryview) -> None:
        """Give the user a payload again, if it was released in vain."""
        try:
            len(self.payload)
        except ValueError:
            self.payload = memoryview(PickleBuffer(memory))

    def __repr__(self) -> str:
        return f"<ringbell.Request {self.token}>"


_take = lib.rb_take
_complete = lib.rb_complete
_EAGAIN = -errno.EAGAIN
_EALREADY = -errno.EALREADY
_EMSGSIZE = -errno.EMSGSIZE
_EPIPE = -errno.EPIPE


class Device(Side):
    """Takes requests and completes them; made by `Listener.accept`.

    `for request in device` takes one after the other until the driver closes the channel.
    Requests may be completed in any order; slots become free in theirs. For one thread at a time:
    a second one gets RuntimeError. A context manager; leaving it closes the channel.
    """

    __slots__ = ("_channel", "doorbell", "frame_words", "handle", "interrupt")

    def __init__(self, channel: Channel) -> None:
        """Serve a channel that has been opened; users call `Listener.accept`."""
        self.handle = channel.handle
        self.doorbell = Consumer(channel)
        """The consuming end of the doorbell ring."""
        self.interrupt = Producer(channel)
        """The producing end of the interrupt ring."""
        super().__init__(channel, self.interrupt, self.doorbell)
        # index, token, start, stop in one step: an attribute each would take four.
        self.frame_words = memoryview(channel.memory(channel.frame, 32)).cast("Q")

    def take(self, timeout: float | None = None) -> Request:
        """Take the next request.

        Blocks while there is none. Raises RingEmpty after `timeout` seconds; EndOfStream when the
        driver has closed, PeerLost when it died, both after all that it sent has been taken;
        RuntimeError when every slot of the ring is held by requests that were taken and not
        completed, as then nothing can arrive; BufferError while a part of what `doorbell.borrow`
        lent is in use; ChannelClosed after close. Beside held requests only
        what fits into the rest of the ring can arrive: complete them before you wait for more.
        """
        doorbell = self.doorbell
        if doorbell.inside:
            raise in_use(self)
        doorbell.inside = True
        try:
            if doorbell.lent:
                doorbell.give_back()
            flags = 0
            if not doorbell.whole:
                flags = _take(self.handle, doorbell.taken, -1 if timeout is None else 0)
            if flags:
                flags = doorbell.get_frame(flags, deadline_after(timeout), not timeout, True)
            if doorbell.whole:
                return self._put_together()
            if flags:
                raise RuntimeError(
                    "a message that doorbell.recv() was interrupted over waits to be received; "
                    "call doorbell.recv() once more"
                )
            index, token, start, stop = self.frame_words.tolist()
            request = Request(self, index, token, doorbell.their_slots, start, stop)
            doorbell.taken += 1
            return request
        finally:
            doorbell.inside = False

    def __iter__(self) -> Iterator[Request]:
        """Take requests until the driver closes; raise PeerLost when it dies."""
        take = self.take
        while True:
            try:
                request = take()
            except EndOfStream:
                return
            yield request

    def __repr__(self) -> str:
        state = "closed" if self._channel.closed else "open"
        return f"<ringbell.Device of process {self._channel.peer_pid}, {state}>"

    def _put_together(self) -> Request:
        doorbell = self.doorbell
        assert doorbell.whole is not None
        index, token, _ = doorbell.whole
        copy = memoryview(doorbell.pieces)
        request = Request(self, index, token, copy, 0, len(copy))
        doorbell.pieces = b""
        doorbell.whole = None
        return request

    def answer_slowly(
        self,
        token: int,
        index: int,
        status: int,
        payload: CData | bytes,
        kind: int,
        timeout: float | None,
    ) -> None:
        """Finish an answer that one call could not send, as `status` says."""
        deadline = deadline_after(timeout)
        try:
            while status == _EAGAIN:
                self.interrupt.wait_for_room(deadline)
                status = _complete(self.handle, index, payload, len(payload), kind)
            if status == _EMSGSIZE:
                self.interrupt.send_in_pieces(
                    payload, token, kind, deadline, self.interrupt.wait_for_room
                )
                status = _EPIPE  # all that is left to do is to release it
        except EndOfStream:
            status = _EPIPE
        if status == _EPIPE:
            # Sent, or the driver has closed and wants no answer.
            lib.rb_release(self.handle, index)
        elif status == _EALREADY:
            raise RuntimeError(f"request {token} has been answered before")
        elif status:
            self._channel.fail(status)
