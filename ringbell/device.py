# SPDX-License-Identifier: MIT
"""The side that does."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.channel import Channel, deadline_after
from ringbell.consumer import Consumer
from ringbell.errors import EndOfStream
from ringbell.in_use import in_use
from ringbell.producer import Producer
from ringbell.request import Request
from ringbell.side import Side

if TYPE_CHECKING:
    from ringbell._ffi import CData

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
