# SPDX-License-Identifier: MIT
"""How the two sides meet: a few datagrams on a Unix socket (SOCK_SEQPACKET).

Who connects says what it is. The side that made the memory, a driver or a producer, passes its
descriptors with that: the segment, then for the doorbell ring and for the interrupt ring those that
kick: the data eventfd, the timer and the space eventfd. A consumer that connects has none to pass;
the producer that it comes to answers with its own. Whoever got the descriptors answers WELCOME, or
REFUSED and why.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Literal

from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.deadlines import seconds_left
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import segment
from ringbell.policy import Policy

Role = Literal["driver", "device", "producer", "consumer"]

_PARTNERS: dict[Role, Role] = {
    "driver": "device",
    "device": "driver",
    "producer": "consumer",
    "consumer": "producer",
}
_HELLOS: dict[bytes, Role] = {
    b"ringbell driver 3": "driver",
    b"ringbell producer 3": "producer",
    b"ringbell consumer 3": "consumer",
}
_WELCOME = b"ringbell welcome"
_REFUSED = b"ringbell refused"
_NAME_IN_USE = b"ringbell in use "
# What they are, in the order of csrc/api.h, for each of the two rings.
_KICK_FDS = ("eventfd", "timerfd", "eventfd") * 2
_DESCRIPTORS = 1 + len(_KICK_FDS)
_CREDENTIALS = struct.Struct("3i")
_INTRODUCTION = 2.0  # seconds


class WrongPartner(Exception):  # noqa: N818  (never seen by users)
    """Somebody connected who is not what this side waits for; the message says so to them."""


def limit_introduction(control: socket.socket, deadline: float | None) -> None:
    """Bound the time that somebody who has connected may take to say what it is.

    One who is there has spoken already; one who does not must not hold up others.
    """
    left = seconds_left(deadline)
    control.settimeout(_INTRODUCTION if left is None else min(_INTRODUCTION, max(left, 0.01)))


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


# ---- the side that made the memory ----


def offer(
    control: socket.socket,
    role: Role,
    made: segment.Segment,
    policy: Policy,
    deadline: float | None,
    guard: ExitStack,
) -> Channel:
    """Hand a segment to the other side, and wait until it has taken it.

    `guard` closes the socket if that fails. Raises what `receive_welcome` raises, and TimeoutError.
    """
    peer_pid = peer_of(control)
    kick_fds = make_kick_fds(guard)
    # Mapped first: the other side may look at our indices as soon as it has the segment.
    channel = Channel(
        made.header, lib.RB_DRIVER, made.descriptor, kick_fds, control, peer_pid, policy, guard
    )
    try:
        control.settimeout(seconds_left(deadline))
        say_hello(control, role, [made.descriptor, *kick_fds])
        receive_welcome(control, _PARTNERS[role])
        control.settimeout(None)
    except BaseException as error:
        # The consumer may have taken it already, and this is no end of the stream.
        channel.close(goodbye=role != "producer")
        if isinstance(error, BlockingIOError):
            text = f"the {_PARTNERS[role]} did not answer within the timeout"
            raise TimeoutError(text) from None
        raise
    return channel


def say_hello(control: socket.socket, role: Role, descriptors: list[int]) -> None:
    """Say what this side is, and pass the descriptors; raises PeerLost when nobody listens."""
    (hello,) = (hello for hello, says in _HELLOS.items() if says == role)
    try:
        socket.send_fds(control, [hello], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        raise PeerLost(f"the {_PARTNERS[role]} went away before it took the channel") from None


def receive_welcome(control: socket.socket, partner: Role) -> None:
    """Wait for the other side's answer.

    Raises LayoutMismatch with its reason, OSError (EADDRINUSE) when it is what we are, or PeerLost
    when it went away.
    """
    try:
        answer = control.recv(2048)
    except ConnectionResetError:
        answer = b""
    if answer != _WELCOME:
        _raise_refusal(answer, partner)


def _raise_refusal(answer: bytes, partner: Role) -> None:
    if not answer:
        raise PeerLost(f"the {partner} went away before it took the channel; is it still running?")
    if answer.startswith(_NAME_IN_USE):
        why = answer.removeprefix(_NAME_IN_USE).decode(errors="replace")
        raise OSError(errno.EADDRINUSE, why)
    why = answer.removeprefix(_REFUSED).decode(errors="replace")
    raise LayoutMismatch(f"the {partner} refused the channel: {why}")


# ---- the other side ----


def take_over(
    control: socket.socket,
    descriptors: list[int],
    policy: Policy,
    guard: ExitStack,
    check: Callable[[bytes, int], None],
) -> Channel:
    """Check and map the segment that was handed over, and say so.

    `check` gets the text that describes the records of the doorbell ring, b"" for messages, and
    the size of its slots, and may raise. `guard` closes the descriptors and the socket if this
    fails.
    """
    memory, *kick_fds = descriptors
    header, description = segment.check(memory)
    check(description, lib.rb_header_slot_size(header))
    for descriptor, expected in zip(kick_fds, _KICK_FDS, strict=True):
        _check_kind(descriptor, expected)
        os.set_blocking(descriptor, False)
    channel = Channel(
        header, lib.RB_DEVICE, memory, kick_fds, control, peer_of(control), policy, guard
    )
    os.close(memory)  # mapped, and not needed again
    try:
        control.send(_WELCOME)
        control.settimeout(None)
    except OSError:
        channel.close()
        raise
    return channel


def receive_hello(
    control: socket.socket, guard: ExitStack, mine: Role, name_in_use: str = ""
) -> list[int]:
    """Take what the other side says and passes first; `guard` closes the descriptors.

    Raises LayoutMismatch when no ringbell of this version says that, or what it passes is not what
    belongs there; PeerLost when it went away; WrongPartner when it is not what `mine` waits for.
    With `name_in_use` it is told that if it is another one of `mine`.
    """
    text, received, truncated = _receive(control, guard)
    if not text or text.startswith((_REFUSED, _NAME_IN_USE)):
        _raise_refusal(text, _PARTNERS[mine])
    role = _HELLOS.get(text)
    if role is None:
        known = b", ".join(_HELLOS).decode()
        raise LayoutMismatch(f"the other side said {text[:32]!r}; this ringbell knows {known}")
    expected = 0 if role == "consumer" else _DESCRIPTORS
    if truncated or len(received) != expected:
        raise LayoutMismatch(f"the {role} sent {len(received)} descriptors, not {expected}")
    if role == mine and name_in_use:
        control.send(_NAME_IN_USE + name_in_use.encode()[:1024])
        raise WrongPartner(name_in_use)
    if role != _PARTNERS[mine]:
        raise WrongPartner(f"this is a {mine}, which waits for a {_PARTNERS[mine]}, not a {role}")
    return received


def _receive(control: socket.socket, guard: ExitStack) -> tuple[bytes, list[int], bool]:
    integers = array.array("i")
    try:
        text, ancillary, flags, _ = control.recvmsg(
            2048, socket.CMSG_SPACE(_DESCRIPTORS * integers.itemsize), socket.MSG_CMSG_CLOEXEC
        )
    except ConnectionResetError:
        return b"", [], False
    except BlockingIOError:
        raise TimeoutError("the other side said nothing within the timeout") from None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            integers.frombytes(data[: len(data) - len(data) % integers.itemsize])
    received = list(integers)
    for descriptor in received:
        guard.callback(os.close, descriptor)
    return text, received, bool(flags & socket.MSG_CTRUNC)


def _check_kind(descriptor: int, expected: str) -> None:
    try:
        kind = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  (not a path)
    except OSError:
        return  # no /proc here
    if kind != f"anon_inode:[{expected}]":
        raise LayoutMismatch(f"the driver sent {kind} where {expected} belongs")


def refuse(control: socket.socket, why: str) -> None:
    """Tell the other side why it is not taken."""
    control.send(_REFUSED + why.encode()[:1024])
