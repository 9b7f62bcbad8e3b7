# SPDX-License-Identifier: MIT
"""How the two sides meet: one datagram each way on a Unix socket (SOCK_SEQPACKET).

The driver sends HELLO with seven descriptors: the segment, then for the doorbell ring and for the
interrupt ring those that kick: the data eventfd, the timer and the space eventfd. The device
answers WELCOME, or REFUSED and why.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from contextlib import ExitStack

from ringbell._ffi import lib
from ringbell.errors import LayoutMismatch, PeerLost

HELLO = b"ringbell hello 2"
WELCOME = b"ringbell welcome"
REFUSED = b"ringbell refused"
# What they are, in the order of csrc/api.h, for each of the two rings.
_KICK_FDS = ("eventfd", "timerfd", "eventfd") * 2
_DESCRIPTORS = 1 + len(_KICK_FDS)
_DEVICE_GONE = "the device went away before it took the channel; is it still running?"
_CREDENTIALS = struct.Struct("3i")


def make_kick_fds(guard: ExitStack) -> list[int]:
    """Make the eventfds and timers of a channel; `guard` closes them."""
    made: list[int] = []
    for kind in _KICK_FDS:
        if kind == "timerfd":
            descriptor = lib.rb_timer_make()
            if descriptor < 0:
                raise OSError(-descriptor, f"cannot make a timer: {os.strerror(-descriptor)}")
        else:
            descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        made.append(descriptor)
        guard.callback(os.close, descriptor)
    return made


def peer_of(control: socket.socket) -> int:
    """Return the process id of the other side.

    Raises PermissionError when it is another user's: it could change what this side reads.
    """
    packed = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(packed)
    if uid != os.geteuid():
        raise PermissionError(f"process {pid} belongs to user {uid}, and you are {os.geteuid()}")
    return int(pid)


def send_hello(control: socket.socket, segment: int, kick_fds: list[int]) -> None:
    """Pass the descriptors to the device; raises PeerLost when it went away."""
    try:
        socket.send_fds(control, [HELLO], [segment, *kick_fds])
    except (BrokenPipeError, ConnectionResetError):
        raise PeerLost(_DEVICE_GONE) from None


def receive_hello(control: socket.socket, guard: ExitStack) -> tuple[int, list[int]]:
    """Take the descriptors from the driver; `guard` closes them all if something goes wrong.

    Raises LayoutMismatch when they are not what a driver sends.
    """
    integers = array.array("i")
    text, ancillary, flags, _ = control.recvmsg(
        256, socket.CMSG_SPACE(_DESCRIPTORS * integers.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            integers.frombytes(data[: len(data) - len(data) % integers.itemsize])
    received = list(integers)
    for descriptor in received:
        guard.callback(os.close, descriptor)
    if not text:
        raise PeerLost("the driver went away before it said hello")
    if text != HELLO:
        raise LayoutMismatch(f"the driver said {text[:32]!r}; this ringbell expects {HELLO!r}")
    if flags & socket.MSG_CTRUNC or len(received) != _DESCRIPTORS:
        raise LayoutMismatch(f"the driver sent {len(received)} descriptors, not {_DESCRIPTORS}")
    segment, *kick_fds = received
    for descriptor, expected in zip(kick_fds, _KICK_FDS, strict=True):
        _check_kind(descriptor, expected)
        os.set_blocking(descriptor, False)
    return segment, kick_fds


def _check_kind(descriptor: int, expected: str) -> None:
    try:
        kind = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  (not a path)
    except OSError:
        return  # no /proc here
    if kind != f"anon_inode:[{expected}]":
        raise LayoutMismatch(f"the driver sent {kind} where {expected} belongs")


def send_welcome(control: socket.socket) -> None:
    """Tell the driver that the device is there."""
    control.send(WELCOME)


def send_refusal(control: socket.socket, why: str) -> None:
    """Tell the driver why the device does not take it."""
    control.send(REFUSED + why.encode()[:1024])


def receive_welcome(control: socket.socket) -> None:
    """Wait for the device's answer.

    Raises LayoutMismatch with the device's reason, or PeerLost when it went away.
    """
    try:
        answer = control.recv(2048)
    except ConnectionResetError:
        answer = b""
    if not answer:
        raise PeerLost(_DEVICE_GONE)
    if answer != WELCOME:
        why = answer.removeprefix(REFUSED).decode(errors="replace")
        raise LayoutMismatch(f"the device refused the channel: {why}")
