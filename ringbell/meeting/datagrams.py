# SPDX-License-Identifier: MIT
"""Saying something on the socket on which two sides meet, and hearing what the other one says.

Each text is one datagram, and file descriptors may come with it. handshake.py has the texts.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ringbell._ffi import ffi, lib
from ringbell.channel.descriptors import Descriptor, Descriptors, HasDescriptor, os_error
from ringbell.deadlines import seconds_left
from ringbell.errors import PeerLost
from ringbell.meeting import waits
from ringbell.process import describe

MOST_DESCRIPTORS = 4
"""That come with one text: the memory, two eventfds and a page."""

_LONGEST_TEXT = 2048  # bytes of a datagram
_SOON = 0.2  # seconds; a side that is not busy answers sooner

_log = logging.getLogger("ringbell")


def peer_of(control: HasDescriptor) -> int:
    """Return the process id of the other side; 0 when it is in another PID namespace.

    Raises PermissionError when that process belongs to another user, who could change what this
    side reads.
    """
    process, user = ffi.new("int *"), ffi.new("unsigned *")
    if status := lib.rb_socket_peer(control.fileno(), process, user):
        raise OSError(-status, f"cannot tell who connected: {os.strerror(-status)}")
    if user[0] != os.geteuid():
        raise PermissionError(
            errno.EPERM,
            f"{describe(process[0])} belongs to user {user[0]}, and you are {os.geteuid()}",
        )
    return int(process[0])


def say(control: HasDescriptor, text: bytes, descriptors: Sequence[int] = ()) -> None:
    """Say something; never blocks. Raises PeerLost when the other side has gone."""
    passed = ffi.new("int[]", list(descriptors))
    status = lib.rb_socket_send(control.fileno(), text, len(text), passed, len(descriptors))
    if status in (-errno.EPIPE, -errno.ECONNRESET, -errno.ENOTCONN):
        raise PeerLost("the other side went away before it took the channel")
    if status:
        raise os_error(-status, f"cannot speak to the other side: {os.strerror(-status)}")


def hear(owned: Descriptors) -> bytes | None:
    """Take what the other side has said, None if it has said nothing; b"" if it has gone.

    `owned` then has the descriptors that came with the text. Raises OSError (EMFILE) when this
    process has no room for them.
    """
    try:
        ears = _idle.pop()
    except IndexError:  # another thread may have taken the last one
        ears = _Ears()
    length = lib.rb_socket_receive(owned.control.fileno(), *ears.arguments)
    if length == -errno.ECONNRESET:
        # It closed before it took what this side had said. What it said itself comes after that.
        length = lib.rb_socket_receive(owned.control.fileno(), *ears.arguments)
    if length > 0:
        owned.wake_fds += ears.room[: ears.came[0]]
        text = bytes(ffi.buffer(ears.text, length))
        if not ears.came[0]:
            _idle.append(ears)
        return text
    if length == -errno.EAGAIN:
        _idle.append(ears)
        return None
    if length in (0, -errno.ECONNRESET, -errno.ENOTCONN, -errno.EBADF):
        return b""
    raise os_error(-length, f"cannot hear the other side: {os.strerror(-length)}")


class _Ears:
    """Room for a text and for the descriptors that come with it, made in advance."""

    def __init__(self) -> None:
        self.text = ffi.new("char[]", _LONGEST_TEXT)
        # Room for one more than is expected, so that too many descriptors are noticed.
        self.room = [Descriptor() for _ in range(MOST_DESCRIPTORS + 1)]
        handles = ffi.new("rb_owned *[]", [one.handle for one in self.room])
        self.came = ffi.new("int *")
        self.arguments = (self.text, _LONGEST_TEXT, handles, len(self.room), self.came)


# Objects that received no descriptors are used again.
_idle: list[_Ears] = []


def wait_to_hear(owned: Descriptors, deadline: float | None, path: Path | None = None) -> bytes:
    """Wait for what the other side says; raises TimeoutError, and what `hear` raises.

    If that takes a while, the log says who is waited for: the process that listens on `path`.
    """
    told = path is None
    while (text := hear(owned)) is None:
        left = seconds_left(deadline)
        if left == 0:
            raise TimeoutError("the other side said nothing within the timeout")
        soon = left if told else _SOON if left is None else min(_SOON, left)
        if not waits.wait_readable([owned.control.fileno()], soon) and not told:
            told = True
            who = describe(peer_of(owned.control))
            _log.info("waiting for an answer of %s, which listens on %s", who, path)
    return text
