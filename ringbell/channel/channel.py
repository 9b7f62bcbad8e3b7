# SPDX-License-Identifier: MIT
"""One side of a channel: its memory, its descriptors, and the exceptions for its failures."""

from __future__ import annotations

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, Protocol

from ringbell import _ends, stats
from ringbell._ffi import ffi, lib
from ringbell.available import available_memory
from ringbell.channel import forks
from ringbell.channel.descriptors import Descriptors, os_error
from ringbell.errors import (
    ChannelClosed,
    CorruptRing,
    EndOfStream,
    LayoutMismatch,
    LetGo,
    Overwritten,
    PeerLost,
)
from ringbell.policy import Moderation, Policy, blocks_arguments, moderation_arguments
from ringbell.process import describe

if TYPE_CHECKING:
    from ringbell._ffi import CData
    from ringbell.codecs import Codec

_PATIENCE_NS = 1_000_000_000  # of close, for other threads
_log = logging.getLogger("ringbell")


class _Opener(Protocol):
    """Who opens a side of a pipe, which can be opened once.

    A signal handler that raises may end that anywhere. So what has been done is kept here, and
    opening it again goes on from there.
    """

    _mapping: CData | None
    _channel: Channel | None


class Channel:
    """What the producing and the consuming end of one side share.

    The channel owns the descriptors. `mapping` owns the memory. The memory stays mapped as long as
    a view of it exists, even after `close`.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_forked",
        "_memory",
        "_owned",
        "address",
        "codec",
        "handle",
        "mapping",
        "moderation",
        "peer_pid",
    )

    def __init__(
        self,
        side: int,
        owned: Descriptors,
        policy: Policy,
        *,
        header: bytes,
        segment: int,
        peer_pid: int,
        pipe: _Opener | None = None,
        page: int | None = None,
    ) -> None:
        """Map a segment whose header has been checked, and take the descriptors over.

        A side of a `pipe` may be opened once, in any process; raises OSError (EALREADY,
        EINPROGRESS) after that. Its opener gets the channel as `_channel`. A reader among many has
        a `page` of its own, the descriptor of its memory. If it fails, the caller still owns the
        descriptors.
        """
        self._closed = True  # there is nothing to close yet
        self._forked = False
        wake_fds = ffi.new("int[]", owned.numbers())
        # Made first, so that a signal handler that raises cannot lose what C stores in it.
        self.mapping: CData = ffi.gc(ffi.new("rb_channel **"), lib.rb_channel_drop)
        if pipe is not None:
            self.mapping = pipe._mapping = pipe._mapping or self.mapping
        control = owned.control.fileno()
        if page is not None:
            status = lib.rb_reader_open(self.mapping, header, segment, page, wake_fds, control)
            if not status and owned.pools:
                status = lib.rb_reader_take_pool(self.mapping[0], owned.pools[0].fileno())
        elif pipe is None:
            status = lib.rb_channel_open(self.mapping, header, side, segment, wake_fds, control)
        else:
            pools = ffi.new("int[]", [*(one.fileno() for one in owned.pools), -1, -1])
            status = lib.rb_pipe_open(self.mapping, header, side, segment, wake_fds, control, pools)
        if status == -errno.EPROTO and page is not None:
            raise LayoutMismatch("the other side passed something else than the pool of its blocks")
        if status:
            raise OSError(-status, f"cannot map the segment: {os.strerror(-status)}")
        self.handle: CData = self.mapping[0]
        self.address: int = int(ffi.cast("uintptr_t", self.handle))  # for the types of _ends
        lib.rb_channel_policy(self.handle, *policy.as_arguments())
        if policy.max_message is not None:
            lib.rb_channel_limit(self.handle, policy.max_message)
        if policy.blocks is not None:
            lib.rb_channel_blocks(self.handle, *blocks_arguments(policy.blocks))
        self.moderate(policy.moderation)
        self.codec: Codec | None = policy.codec
        """What makes messages of objects; None: the ends carry bytes."""
        self.peer_pid: int = peer_pid
        sealed = lib.rb_memory_kind(segment) == lib.RB_MEMORY_MEMFD
        self._memory: str = "memfd" if sealed else "posix"
        self._owned = owned
        forks.watch(self)
        # There is no call between these lines, so no signal handler runs there. One may have
        # opened the side of the pipe before; then this object has nothing.
        if pipe is None or pipe._channel is None:
            owned.handed_over = True
            self._closed = False
            if pipe is not None:
                pipe._channel = self

    @property
    def _descriptors(self) -> list[int]:
        return self._owned.numbers()

    @property
    def closed(self) -> bool:
        """Whether this side has closed the channel, or is closing it."""
        return self._closed or bool(lib.rb_channel_closed(self.handle))

    def my_slots(self) -> memoryview:
        """Give the slots that this side writes, mapped twice in a row, as writable bytes."""
        lies = lib.rb_channel_memory(self.handle)
        return self._memory_at(lies.mine, 2 * lies.my_bytes, False)

    def their_slots(self) -> memoryview:
        """Give the slots that the peer writes, mapped twice in a row, as read-only bytes."""
        lies = lib.rb_channel_memory(self.handle)
        return self._memory_at(lies.theirs, 2 * lies.their_bytes, True)

    def _memory_at(self, start: CData, size: int, read_only: bool) -> memoryview:
        """Give a view that keeps the mapping alive."""
        return _ends.memory_at(self.mapping, int(ffi.cast("uintptr_t", start)), size, read_only)

    def moderate(self, moderation: Moderation | None) -> None:
        """Set when to wake this side for data, from its next sleep on."""
        lib.rb_channel_moderation(self.handle, *moderation_arguments(moderation))
        self.moderation: Moderation | None = moderation

    def pollable(self) -> int:
        """Give a descriptor that is readable while there is something to take.

        Raises ChannelClosed after close.
        """
        if self._closed:
            self.fail(-errno.EBADF)
        if status := lib.rb_pollable(self.handle):
            self.fail(status)
        return lib.rb_pollable_fd(self.handle)

    def memory_left(self) -> int:
        """Give the bytes of memory that a message may take now."""
        return available_memory()

    def log_refusal(self, why: str) -> None:
        """Log that this side has refused a request, for the operator."""
        _log.warning("refused what %s sent: %s", describe(self.peer_pid), why)

    def fail(self, status: int) -> NoReturn:
        """Raise the exception for an -errno that C returned; only this place turns one into it."""
        if status == -errno.EBADF:
            if self._forked:
                raise ChannelClosed(
                    "this channel belongs to the process that this one was forked from; "
                    "open another channel in this process"
                )
            raise ChannelClosed("this side has closed the channel; open a new channel to go on")
        if status == -errno.EPIPE:
            raise EndOfStream(f"the other side ({describe(self.peer_pid)}) closed the channel")
        if status == -errno.ECONNRESET:
            raise PeerLost(
                f"the other side ({describe(self.peer_pid)}) died without closing the channel, or "
                "gave it up"
            )
        if status == -errno.ETIMEDOUT:
            raise LetGo(
                f"the writer ({describe(self.peer_pid)}) let this subscriber go, because it held "
                "the writer back for longer than its `stall`; subscribe again to go on"
            )
        if status == -errno.ESTALE:
            raise Overwritten(
                "the writer has overwritten what was borrowed; the next call takes what is whole. "
                "Use it for a shorter time, copy it (read, recv), or give the writer a larger ring"
            )
        if status == -errno.EPROTO:
            raise CorruptRing(
                f"the other side ({describe(self.peer_pid)}) broke the format of the shared "
                "memory; close this channel and open a new one"
            )
        if status == -errno.EBUSY:
            raise RuntimeError(
                "this end has reserved room that is not published yet: leave the with block of "
                "reserve() before you send or reserve more"
            )
        if status == -errno.EMSGSIZE:
            raise ValueError(
                "a message of a publication that keeps the newest takes at most half the ring, "
                f"{lib.rb_payload_max(self.handle)} bytes; publish with a larger ring_size"
            )
        if status == -errno.ENOMEM:
            raise MemoryError(
                "this process has no memory left for what this call has to note; nothing was "
                "taken: complete requests that are held, or free memory, and call again"
            )
        raise os_error(-status, os.strerror(-status))

    def stats(self) -> stats.Stats:
        """Read the indices and the counters of both sides; also possible after close."""
        words = ffi.new("uint64_t[]", stats.WORDS)
        lib.rb_channel_stats(self.handle, words)
        return stats.from_words(list(words), self._memory)

    def close(self, goodbye: bool = True) -> None:
        """Say goodbye and give back the descriptors. Closing twice does nothing.

        Without a goodbye the other side gets PeerLost: this side has ended half-way. Any thread may
        close. Running calls of other threads end with ChannelClosed, and this waits for them, at
        most one second. If a call still runs then (perhaps in the caller's code), or if the calling
        thread itself is inside a call, the last call to end does the closing.
        """
        # A signal handler that raises may end this anywhere, so each step may be done twice.
        if not self._closed and _ends.close_side(self.address, goodbye, _PATIENCE_NS):
            self._close_descriptors()
            self._closed = True

    def give_up(self) -> None:
        """Close without a goodbye."""
        self.close(goodbye=False)

    def leave_to_parent(self) -> None:
        """Count as closed in a forked child, without a goodbye: the parent owns the channel."""
        if self._closed:
            return
        self._forked = True
        self._closed = True
        lib.rb_channel_disown(self.handle)
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        forks.forget(self)
        self._owned.close()

    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the interpreter the modules are gone, and the kernel closes everything.
        if getattr(self, "_closed", True) or _ending():  # closed, or not even begun
            return
        self._closed = True
        closed = lib.rb_channel_closed(self.handle)
        # If an end in the same reference cycle lives on, it must not use the descriptors any more.
        # Without a goodbye the peer gets PeerLost, unless the channel was closed before.
        lib.rb_channel_close(self.handle, False, 0)
        self._close_descriptors()
        if closed:
            return
        warnings.warn(
            "a ringbell channel was not closed; use a with block or close()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
