# SPDX-License-Identifier: MIT
"""How the two sides meet: a few datagrams on a Unix socket (SOCK_SEQPACKET).

    who                         says                and passes
    a driver, a producer        HELLO               the descriptors of the channel
    a consumer that connects    HELLO               nothing; the producer answers with its HELLO
    a device, a consumer        WELCOME             nothing; it has taken the channel
    whoever does not take it    REFUSED and why     nothing
    a producer, a consumer      IN USE and why      nothing; the other one has the same role

Whoever connects speaks first. The driver or the producer made the memory. Its descriptors are the
segment, then three for the doorbell ring and three for the interrupt ring: the data eventfd, the
timer and the space eventfd.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Literal

from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.channel.descriptors import Descriptors
from ringbell.deadlines import seconds_left
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import segment
from ringbell.policy import Policy

Role = Literal["driver", "device", "producer", "consumer"]

PARTNERS: dict[Role, Role] = {
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
_LONGEST_TEXT = 2048  # bytes of a datagram
_LONGEST_REASON = 1024  # bytes of the reason in one


class WrongPartner(Exception):  # noqa: N818  (never seen by users)
    """Somebody connected who is not what this side waits for. The message is for that one."""


class SameRole(WrongPartner):
    """Somebody connected who is what this side is: the name is in use."""


def limit_introduction(control: socket.socket, deadline: float | None) -> None:
    """Bound the time that somebody who has connected may take to say what it is.

    A partner speaks as soon as it has connected. Others wait meanwhile.
    """
    left = seconds_left(deadline)
    control.settimeout(_INTRODUCTION if left is None else min(_INTRODUCTION, max(left, 0.01)))


def make_kick_fds(owner: Descriptors) -> list[int]:
    """Make the eventfds and timers of a channel; `owner` closes them."""
    for kind in _KICK_FDS:
        if kind == "timerfd":
            descriptor = lib.rb_timer_make()
            if descriptor < 0:
                raise OSError(-descriptor, f"cannot make a timer: {os.strerror(-descriptor)}")
        else:
            descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        owner.kick_fds.append(descriptor)
    return owner.kick_fds


def peer_of(control: socket.socket) -> int:
    """Return the process id of the other side.

    Raises PermissionError when that process is another user's: that user could change what this
    side reads.
    """
    packed = control.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(packed)
    if uid != os.geteuid():
        raise PermissionError(f"process {pid} belongs to user {uid}, and you are {os.geteuid()}")
    return int(pid)


# ---- the side that made the memory ----


def offer(
    owned: Descriptors,
    role: Role,
    made: segment.Segment,
    policy: Policy,
    deadline: float | None,
) -> Channel:
    """Hand a segment to the other side, and wait until it has taken it.

    The channel owns the descriptors then. Raises what `receive_welcome` raises, and TimeoutError.
    """
    control = owned.control
    peer_pid = peer_of(control)
    kick_fds = make_kick_fds(owned)
    # Before the segment is handed over: the other side may look at our indices from then on.
    channel = Channel(
        lib.RB_DRIVER,
        owned,
        policy,
        header=made.header,
        segment=made.descriptor,
        peer_pid=peer_pid,
    )
    try:
        control.settimeout(seconds_left(deadline))
        say_hello(control, role, [made.descriptor, *kick_fds])
        receive_welcome(control, PARTNERS[role])
        control.settimeout(None)
    except BaseException as error:
        # A consumer may have taken it already, and must not take this for the end of the stream.
        channel.close(goodbye=role != "producer")
        if isinstance(error, BlockingIOError):
            text = f"the {PARTNERS[role]} did not answer within the timeout"
            raise TimeoutError(text) from None
        raise
    return channel


def say_hello(control: socket.socket, role: Role, descriptors: list[int]) -> None:
    """Say what this side is, and pass the descriptors; raises PeerLost when nobody listens."""
    (hello,) = (hello for hello, says in _HELLOS.items() if says == role)
    try:
        socket.send_fds(control, [hello], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        raise PeerLost(f"the {PARTNERS[role]} went away before it took the channel") from None


def receive_welcome(control: socket.socket, partner: Role) -> None:
    """Wait for the other side's answer.

    Raises LayoutMismatch with the other side's reason, OSError (EADDRINUSE) when it is what this
    side is, or PeerLost when it went away.
    """
    try:
        answer = control.recv(_LONGEST_TEXT)
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


def receive_hello(owned: Descriptors, mine: Role) -> None:
    """Take what the other side says first, and the descriptors that come with it.

    Raises LayoutMismatch when no ringbell of this version says that, or when other descriptors came
    than belong there; PeerLost when the other side went away or refused; WrongPartner when it is
    not what `mine` waits for, SameRole when it is another one of `mine`.
    """
    text, received, truncated = _receive(owned)
    if not text or text.startswith((_REFUSED, _NAME_IN_USE)):
        _raise_refusal(text, PARTNERS[mine])
    role = _HELLOS.get(text)
    if role is None:
        known = b", ".join(_HELLOS).decode()
        raise LayoutMismatch(f"the other side said {text[:32]!r}; this ringbell knows {known}")
    expected = 0 if role == "consumer" else _DESCRIPTORS
    if truncated or received != expected:
        raise LayoutMismatch(f"the {role} sent {received} descriptors, not {expected}")
    if role == mine:
        raise SameRole(f"this is a {mine}, too")
    if role != PARTNERS[mine]:
        raise WrongPartner(f"this is a {mine}, which waits for a {PARTNERS[mine]}, not a {role}")
    if received:
        # One step, so that each descriptor has one owner all the time.
        owned.segment, *owned.kick_fds = owned.kick_fds


def _receive(owned: Descriptors) -> tuple[bytes, int, bool]:
    """Receive a text; also how many descriptors came with it, and whether there were too many."""
    integers = array.array("i")
    try:
        text, ancillary, flags, _ = owned.control.recvmsg(
            _LONGEST_TEXT,
            socket.CMSG_SPACE(_DESCRIPTORS * integers.itemsize),
            socket.MSG_CMSG_CLOEXEC,
        )
    except ConnectionResetError:
        return b"", 0, False
    except BlockingIOError:
        raise TimeoutError("the other side said nothing within the timeout") from None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            integers.frombytes(data[: len(data) - len(data) % integers.itemsize])
    owned.kick_fds.extend(integers)
    return text, len(integers), bool(flags & socket.MSG_CTRUNC)


def take_over(owned: Descriptors, policy: Policy, check: Callable[[bytes, int], None]) -> Channel:
    """Check and map the segment that came with the other side's hello, and welcome that side.

    `check` gets the text that describes the records of the doorbell ring, b"" for messages, and
    the size of its slots, and may raise. The channel owns the descriptors then.
    """
    assert owned.segment is not None, "receive_hello has been here"
    header, description = segment.check(owned.segment)
    check(description, lib.rb_header_slot_size(header))
    for descriptor, expected in zip(owned.kick_fds, _KICK_FDS, strict=True):
        _check_kind(descriptor, expected)
        os.set_blocking(descriptor, False)
    channel = Channel(
        lib.RB_DEVICE,
        owned,
        policy,
        header=header,
        segment=owned.segment,
        peer_pid=peer_of(owned.control),
    )
    try:
        owned.control.send(_WELCOME)
        owned.control.settimeout(None)
    except OSError:
        channel.close()
        raise
    return channel


def _check_kind(descriptor: int, expected: str) -> None:
    try:
        kind = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  (not a path)
    except OSError:
        return  # no /proc here
    if kind != f"anon_inode:[{expected}]":
        raise LayoutMismatch(f"the other side sent {kind} where {expected} belongs")


def refuse(control: socket.socket, why: str) -> None:
    """Tell the other side why it is not taken."""
    control.send(_REFUSED + why.encode()[:_LONGEST_REASON])


def refuse_same_role(control: socket.socket, why: str) -> None:
    """Tell one that is what this side is, whose name is in use; there that is EADDRINUSE."""
    control.send(_NAME_IN_USE + why.encode()[:_LONGEST_REASON])
