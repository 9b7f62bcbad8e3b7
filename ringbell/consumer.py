# SPDX-License-Identifier: MIT
"""The consuming end of a ring."""

from __future__ import annotations

import errno
import operator
from itertools import pairwise

from ringbell._ffi import lib
from ringbell.channel import Channel, deadline_after
from ringbell.errors import RingEmpty
from ringbell.in_use import in_use
from ringbell.moderation import Moderation

_recv = lib.rb_recv
_recv_many = lib.rb_recv_many
_take = lib.rb_take
_release = lib.rb_release
_DATA = lib.RB_DATA
_MORE = lib.RB_FLAG_MORE
_CONTINUED = lib.RB_FLAG_CONTINUED
_EAGAIN = -errno.EAGAIN
_EMSGSIZE = -errno.EMSGSIZE


class Consumer:
    """Receives messages from a ring; `device.doorbell` and `driver.interrupt` are consumers.

    For one thread at a time: a second one gets RuntimeError.

    A signal handler may raise after any call into C. So C gives a message again until `taken`
    says that it is safely in hand, and `taken` moves in a step that no handler can divide from
    the one before it.
    """

    __slots__ = (
        "_batch",
        "_batch_ends",
        "_channel",
        "_handle",
        "frame",
        "inside",
        "pieces",
        "scratch",
        "taken",
        "their_slots",
        "whole",
    )

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handle = channel.handle
        self.pieces: bytes | bytearray = b""  # of a message too long for one call
        # If they are all of it, to be handed out: its index, token and kind.
        self.whole: tuple[int, int, int] | None = None
        self.frame = channel.frame
        self.scratch = channel.memory(
            lib.rb_channel_scratch(channel.handle), lib.rb_channel_scratch_bytes()
        )
        self.their_slots = channel.their_slots()
        handle = channel.handle
        self._batch = channel.memory(lib.rb_channel_batch(handle), lib.rb_channel_batch_bytes())
        ends = channel.memory(
            lib.rb_channel_batch_ends(handle), 4 * (lib.rb_channel_batch_messages() + 1)
        )
        self._batch_ends = memoryview(ends).cast("I")
        self.taken = 0
        self.inside = False  # see Producer

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
            length = 0
            if not self.whole:
                length = _recv(self._handle, self.taken, -1 if timeout is None else 0)
            if length < 0:
                # With a timeout of 0, to look once was all.
                length = self.get_ready(length, deadline_after(timeout), not timeout)
            if self.whole:
                payload = bytes(self.pieces)
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
        most = lib.rb_channel_batch_messages() if max is None else operator.index(max)
        if most < 1:
            raise ValueError(f"max is how many messages to take, at least 1, not {max}")
        if self.inside:
            raise in_use(self)
        self.inside = True
        try:
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
                messages = [bytes(self.pieces)]
                self.pieces = b""
                self.whole = None
                return messages
            messages = [self.scratch[:length]]
            self.taken += 1
            return messages
        finally:
            self.inside = False

    def _take_batch(self, count: int) -> list[bytes]:
        # Not from the first one on, if a signal handler kept some of them from being taken before.
        first = self.frame.index
        ends = self._batch_ends[first : first + count + 1].tolist()
        batch = self._batch[: ends[-1]]
        messages = [batch[start:stop] for start, stop in pairwise(ends)]
        self.taken += count
        return messages

    @property
    def moderation(self) -> Moderation | None:
        """When this end wants to be woken once it sleeps; None is at once.

        May be set at any time by the thread that uses the end; counts from the next sleep on, or,
        after `fileno`, from the next time that a call finds the ring empty.
        """
        return self._channel.moderation

    @moderation.setter
    def moderation(self, moderation: Moderation | None) -> None:
        self._channel.moderate(moderation)

    def fileno(self) -> int:
        """Give a descriptor for `select`, `epoll` or an event loop, and keep it right from now on.

        It becomes readable when the other side kicks: when there is something to take (as late as
        `moderation` or the other side's `coalesce` say), or it has gone. It stays so until a call
        finds the ring empty (`recv(timeout=0)` raises RingEmpty), so it may be readable once for
        nothing. It belongs to the channel, which closes it. Raises ChannelClosed
        after close.
        """
        return self._channel.pollable()

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

    def wait_for_data(self, deadline: float | None, polled: bool = False) -> None:
        """Block until there is something to take."""
        if not self._channel.wait(_DATA, deadline, polled):
            raise RingEmpty("nothing arrived within the timeout")

    def add_piece(self, flags: int, hold_last: bool = False) -> None:
        """Copy the frame that rb_take gave to the pieces and release it.

        `whole` says then whether they are a whole message. Its last frame can be left held.
        """
        if flags < 0:
            self._channel.fail(flags)
        frame = self.frame
        index, more = frame.index, flags & _MORE
        piece = self.their_slots[frame.start : frame.stop]
        if not flags & _CONTINUED:
            # What was there before was given up by its sender half-way.
            self.pieces = bytearray() if more else b""
        # No call until the release, so no signal handler can come in between.
        self.pieces += piece
        self.whole = None if more else (index, frame.token, frame.kind)
        self.taken += 1
        if more or not hold_last:
            _release(self._handle, index)
