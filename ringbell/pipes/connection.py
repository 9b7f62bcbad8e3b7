# SPDX-License-Identifier: MIT
"""One end of a pipe, with the interface of multiprocessing's connections."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import connection
from numbers import Real
from typing import TYPE_CHECKING, Any, NoReturn

from ringbell import _ends
from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.errors import ChannelClosed, EndOfStream, MessageTooLong, PeerLost, RingbellError
from ringbell.pipes.buffers import part_of, room_of
from ringbell.pipes.claim import claim
from ringbell.pipes.handles import Handles, open_again, pass_on
from ringbell.pipes.objects import pack, unpack
from ringbell.policy import Policy

if TYPE_CHECKING:
    from ringbell._ffi import CData
    from ringbell._types import Payload
    from ringbell.channel.descriptors import Descriptors

    _Connection = connection.Connection[Any, Any]
else:
    _Connection = connection.Connection  # at run time it takes no subscript

_NO_LIMIT = 2**64 - 1

# One thread at a time opens a connection. A signal handler of that thread may open it meanwhile,
# because each step may be done twice.
_opening = threading.RLock()


def _renew_lock() -> None:
    global _opening
    _opening = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


# A subclass only so that programs that ask for a Connection, or name it as a type, get one. All of
# its methods are replaced.
class Connection(_Connection):
    """One end of a pipe; made by `Pipe`. A context manager.

    It has the methods, and raises the errors, of `multiprocessing.connection.Connection`.

    It belongs to the process that first sends or receives on it; `poll`, `fileno` and `close` do
    not count. Before that it may be passed to another process, and be inherited by any number of
    forked children. In all processes but one its use raises OSError. Closing a copy of it that
    nobody has used, or ending a process that has one, changes nothing for the other copies. The
    other end meets the end of the file when the process that uses this end has closed it, or when
    no process has a copy any longer.

    One thread may send while another one receives. Two that send, or two that receive, need a lock:
    the second gets RuntimeError.
    """

    __slots__ = (
        "_channel",
        "_consumer",
        "_limit",
        "_mapping",
        "_owned",
        "_policy",
        "_readable",
        "_recv",
        "_recv_bytes",
        "_send",
        "_side",
        "_watched",
        "_writable",
    )

    def __init__(
        self,
        owned: Descriptors,
        side: int,
        policy: Policy,
        *,
        readable: bool = True,
        writable: bool = True,
    ) -> None:
        """Own the descriptors of one side; users call `Pipe`."""
        self._owned: Descriptors | None = owned
        self._side = side
        self._policy = policy
        self._readable = readable
        self._writable = writable
        self._watched = False  # somebody may sleep on the descriptor
        self._mapping: CData | None = None  # while the channel is being opened
        self._channel: Channel | None = None
        self._consumer: _ends.PipeConsumer | None = None
        # What sends and what takes, while this process uses the connection for that.
        self._send: Callable[[Any], None] | None = None
        self._recv: _ends.Taking[float | None, Any] | None = None
        self._recv_bytes: _ends.Taking[float | None, bytes] | None = None
        self._limit: int | None = None  # bytes of the longest message that is taken

    # ---- sending ----

    def send(self, obj: object) -> None:
        """Send an object: its pickle, as multiprocessing makes it.

        Blocks while there is no room. Raises what pickling raises, and then nothing is sent;
        BrokenPipeError when the other end is closed; OSError when this end is closed, only
        receives, or is used by another process.
        """
        send = self._send or self._sender()
        message = pack(obj)
        try:
            send(message)
        except RingbellError as error:
            self._could_not_send(error)

    def send_bytes(self, buf: Payload, offset: int = 0, size: int | None = None) -> None:
        """Send the bytes of a contiguous buffer as one message, of any size.

        `offset` and `size` choose a part of it, in bytes; without `size` it goes to the end. Blocks
        while there is no room. Raises ValueError for a part that is not inside of the buffer, and
        what `send` raises.
        """
        send = self._send or self._sender()
        if offset or size is not None:
            buf = part_of(buf, offset, size)
        try:
            send(buf)
        except RingbellError as error:
            self._could_not_send(error)

    # ---- receiving ----

    def recv(self) -> Any:  # noqa: ANN401  (whatever was sent)
        """Receive an object that the other end has sent with `send`.

        Blocks while there is none. Pickles run code: receive only from processes that you trust.
        Of a pipe with `blocks`, what came by reference has its large arrays in its block: they are
        read-only views, which keep the block. When unpickling raises, the message has been taken,
        and the next call takes the one behind it. When it is interrupted (Ctrl-C), the next call
        takes it again. What unpickles may not receive on this connection.

        Raises EOFError when all has been taken and the other end is closed; OSError when this end
        is closed, only sends, or is used by another process.
        """
        take = self._recv or self._receiver()
        if self._limit is not None:
            self._limit_to(None)
        try:
            # A subscript, not a call: csrc/python/python.h says why.
            return take[None]
        except RingbellError as error:
            self._could_not_receive(error)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
        """Receive one message as bytes.

        Blocks while there is none. If the message is longer than `maxlength` bytes, raises OSError,
        and nothing can be received any longer; an end that only receives is closed. Raises
        ValueError for a negative `maxlength`, and what `recv` raises.
        """
        take = self._recv_bytes or self._bytes_receiver()
        if maxlength != self._limit:
            self._limit_to(maxlength)
        try:
            return take[None]
        except RingbellError as error:
            self._could_not_receive(error)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:  # noqa: ANN401  (arrays, too)
        """Receive one message into a writable buffer, from byte `offset` on; give its length.

        Blocks while there is none. If the message is longer than the room, raises
        `multiprocessing.BufferTooShort` with the message as its argument. Raises ValueError for an
        `offset` that is not inside of the buffer, TypeError for a buffer that is not writable, and
        what `recv` raises. Then no message has been taken.
        """
        if self._recv is None:
            self._receiver()
        if self._limit is not None:
            self._limit_to(None)
        room = room_of(buf, offset)
        try:
            consumer = self._consumer
            assert consumer is not None, "the first use has made it"
            return consumer._recv_into[room]
        except BaseException as error:
            room.release()  # its traceback may be kept
            if isinstance(error, RingbellError):
                self._could_not_receive(error)
            raise

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Say whether there is something to receive, or the end of the file.

        Waits for it up to `timeout` seconds, for ever if that is None; a negative one counts as 0.
        Raises TypeError or ValueError for what is no number; OSError when this end is closed or
        only sends.
        """
        if isinstance(timeout, (float, Real)) and timeout < 0:
            timeout = 0.0
        if self._consumer is None or not self._readable:
            return self._poll_unused(timeout)
        try:
            return self._consumer._poll(timeout)
        except ChannelClosed:
            raise self._closed() from None

    def fileno(self) -> int:
        """Give a descriptor for `multiprocessing.connection.wait`, selectors or an event loop.

        It is readable while there is something to receive, and at the end of the file. It is a
        socket to the other end, through which `multiprocessing.reduction` passes descriptors. The
        connection owns and closes it. Raises OSError after close.
        """
        owned = self._check_open()
        self._watched = True
        if self._consumer is not None:
            self._consumer._watch()
        return owned.control.fileno()

    # ---- state ----

    @property
    def closed(self) -> bool:
        """Whether this end is closed."""
        return self._owned is None or (self._channel is not None and self._channel.closed)

    @property
    def readable(self) -> bool:
        """Whether this end receives."""
        return self._readable

    @property
    def writable(self) -> bool:
        """Whether this end sends."""
        return self._writable

    def close(self) -> None:
        """Close this end; the other one takes what was sent, then meets the end of the file.

        If this process has not used the connection, only its copy is closed. Any thread may close;
        a call that is running then raises OSError. Closing twice does nothing.
        """
        # A signal handler that raises may end this anywhere. Then the last reference to the
        # descriptors closes them, or a second call closes the channel.
        owned, self._owned = self._owned, None
        self._send = self._recv = self._recv_bytes = None
        if self._channel is not None:
            self._channel.close()
        elif owned is not None:
            owned.close()

    def __del__(self, _ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the interpreter the modules are gone, and the kernel closes everything.
        if hasattr(self, "_limit") and not _ending():
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        owned = self._check_open()
        if self._channel is not None:
            raise RuntimeError(
                "this connection has been used in this process and cannot move to another one; "
                "pass a connection on before its first send or recv"
            )
        state = self._side, self._policy, self._readable, self._writable
        return _rebuild, (*state, pass_on(owned))

    def __repr__(self) -> str:
        does = {(True, True): "duplex", (True, False): "read-only", (False, True): "write-only"}
        state = "closed" if self.closed else "not used yet" if self._channel is None else "in use"
        return f"<ringbell.Connection, {does[self._readable, self._writable]}, {state}>"

    # ---- the first use ----

    def _sender(self) -> Callable[[Any], None]:
        self._check_open()
        if not self._writable:
            raise OSError("connection is read-only")
        self._open()
        if (send := self._send) is None:  # another thread has closed it
            raise self._closed()
        return send

    def _receiver(self) -> _ends.Taking[float | None, Any]:
        self._begin_to_take()
        if (take := self._recv) is None:
            raise self._closed()
        return take

    def _bytes_receiver(self) -> _ends.Taking[float | None, bytes]:
        self._begin_to_take()
        if (take := self._recv_bytes) is None:
            raise self._closed()
        return take

    def _begin_to_take(self) -> None:
        self._check_open()
        self._check_readable()
        self._open()

    def _poll_unused(self, timeout: float | None) -> bool:
        owned = self._check_open()
        self._check_readable()
        return bool(_ends.wait_readable([owned.control.fileno()], timeout))

    def _open(self) -> None:
        """Open this side, if no process has: from now on it is this process's."""
        with _opening:
            owned = self._check_open()
            if self._channel is None:
                try:
                    claim(owned, self._side, self._policy, self)
                except Exception:
                    if self._channel is None:  # else a signal handler has opened it meanwhile
                        raise
            channel = self._channel
            assert channel is not None, "claim has stored it"
            owned.give_up_memory()  # only other processes would need it
            if self._consumer is None:
                self._consumer = _ends.PipeConsumer(channel, unpack)
            if self._watched:
                self._consumer._watch()
            if self._readable:
                consumer = self._consumer
                self._recv_bytes = consumer._recv_bytes
                # `_hold` finds the same messages, a little slower.
                self._recv = consumer._hold if self._policy.blocks else consumer._recv
            if self._writable:
                self._send = _ends.MessageProducer(channel).send

    # ---- what is wrong ----

    def _check_open(self) -> Descriptors:
        if self._owned is None or (self._channel is not None and self._channel.closed):
            raise self._closed()
        return self._owned

    def _check_readable(self) -> None:
        if not self._readable:
            raise OSError("connection is write-only")

    def _limit_to(self, most: int | None) -> None:
        if most is not None and most < 0:
            raise ValueError("negative maxlength")
        assert self._channel is not None
        self._limit = -1  # a signal handler may raise after the call; then it is made again
        lib.rb_channel_limit(self._channel.handle, _NO_LIMIT if most is None else most)
        self._limit = most

    def _closed(self) -> OSError:
        return OSError("handle is closed" if self._owned is None else _FORKED)

    def _could_not_send(self, error: RingbellError) -> NoReturn:
        if isinstance(error, (EndOfStream, PeerLost)):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        if isinstance(error, ChannelClosed):
            raise self._closed() from None
        raise error

    def _could_not_receive(self, error: RingbellError) -> NoReturn:
        if isinstance(error, (EndOfStream, PeerLost)):
            raise EOFError from None
        if isinstance(error, ChannelClosed):
            raise self._closed() from None
        if isinstance(error, MessageTooLong) and self._limit is not None:
            if self._writable:
                self._readable = False
                self._recv = self._recv_bytes = None
            else:
                self.close()
            raise OSError("bad message length") from None
        raise error


_FORKED = (
    "this connection belongs to the process that this one was forked from; pass it on before its "
    "first send or recv"
)


def _rebuild(
    side: int, policy: Policy, readable: bool, writable: bool, handles: Handles
) -> Connection:
    return Connection(open_again(handles), side, policy, readable=readable, writable=writable)
