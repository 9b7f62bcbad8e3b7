# SPDX-License-Identifier: MIT
"""How the two sides meet: a few datagrams on a Unix socket (SOCK_SEQPACKET).

    who                         says                    and passes
    a driver, a producer        HELLO                   the descriptors of the channel
    a consumer that connects    HELLO                   nothing; the producer answers with its HELLO
    a subscriber                HELLO                   nothing; the publisher answers the same way
    a publisher                 HELLO                   the descriptors and the subscriber's page
    a device, a consumer,       WELCOME                 nothing; it takes the channel
      a subscriber
    a producer that listens,    YOURS                   nothing; the channel is this consumer's, or
      a publisher                                         this subscriber's; the latter gets the
                                                          pool of the publisher's blocks, if any
    a side that refuses         REFUSED and why         nothing; the memory or the text is wrong
                                SOMEBODY ELSE and why   nothing; the roles do not fit
                                OTHER RECORDS and why   nothing; both are right, the dtypes differ
                                FAILED, errno and why   nothing; the refusing side has a problem

A side with a codec adds its name to the HELLO. The other side refuses it if its own has another
name.

The side that connects speaks first. The driver or the producer made the memory. The descriptors are
the segment, the eventfd that wakes its own side, and the eventfd that wakes the other side.

Once they have met, a producer with a kick that is to come later passes one more descriptor on the
same socket, a timer (csrc/kick.c). Nothing else is said there.

A producer that listens offers its memory to every consumer that connects. The first consumer that
says WELCOME gets it. A consumer writes nothing into the memory before the producer says YOURS.

A publisher always listens, and keeps its name. It admits every subscriber that says WELCOME, while
there is a place. A subscriber may write the page only, which comes last among the descriptors and
is its own. Later the publisher may say one letter more, RB_LETS_GO (csrc/passed.h).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ringbell._ffi import lib
from ringbell.channel.channel import Channel
from ringbell.channel.descriptors import (
    A_CHANNEL_TAKES,
    LACKING,
    Descriptors,
    HasDescriptor,
    make,
)
from ringbell.codecs import Codec, name_of
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import segment
from ringbell.meeting.datagrams import MOST_DESCRIPTORS, peer_of, say, wait_to_hear
from ringbell.policy import Policy

Role = Literal["driver", "device", "producer", "consumer", "publisher", "subscriber"]

PARTNERS: dict[Role, Role] = {
    "driver": "device",
    "device": "driver",
    "producer": "consumer",
    "consumer": "producer",
    "publisher": "subscriber",
    "subscriber": "publisher",
}
_HELLOS: dict[bytes, Role] = {
    b"ringbell driver 4": "driver",
    b"ringbell producer 4": "producer",
    b"ringbell consumer 4": "consumer",
    b"ringbell publisher 4": "publisher",
    b"ringbell subscriber 4": "subscriber",
}
_CODEC = b" codec "  # between the hello and the name of a codec
WELCOME = b"ringbell welcome"
YOURS = b"ringbell yours"
_REFUSED = b"ringbell refused"
_SOMEBODY_ELSE = b"ringbell somebody else"
_OTHER_RECORDS = b"ringbell other records"
_FAILED = b"ringbell failed "
_EVENTFDS = 2  # one for each side
_DESCRIPTORS = 1 + _EVENTFDS
# How many come with a hello of a role, at most MOST_DESCRIPTORS.
_COME: dict[Role, int] = {
    "driver": _DESCRIPTORS,
    "producer": _DESCRIPTORS,
    "consumer": 0,
    "publisher": _DESCRIPTORS + 1,
    "subscriber": 0,
}
_LONGEST_REASON = 1024  # bytes of the reason in one
# What each role does here, and the function that meets it.
_DOES: dict[Role, str] = {
    "driver": "a driver connects",
    "device": "a device serves requests",
    "producer": "a producer waits for its consumer",
    "consumer": "a consumer waits for its producer",
    "publisher": "a publisher has subscribers",
    "subscriber": "a subscriber waits for its publisher",
}
_MEET_BY: dict[Role, str] = {
    "driver": "ringbell.serve",
    "device": "ringbell.connect",
    "producer": "ringbell.consume",
    "consumer": "ringbell.produce",
    "publisher": "ringbell.subscribe",
    "subscriber": "ringbell.publish",
}


class WrongPartner(Exception):  # noqa: N818  (never seen by users)
    """A guest has a role that this side does not wait for. The message is for the guest."""


class SameRole(WrongPartner):
    """A guest has the role of this side: the name is in use."""


class OtherRecords(LayoutMismatch):
    """The other side is the right partner, but carries or wants something else."""


def make_wake_fds(owner: Descriptors) -> list[int]:
    """Make the eventfds of a channel; `owner` closes them."""
    for _ in range(_EVENTFDS):
        owner.wake_fds.append(make("an eventfd", lib.rb_owned_eventfd))
    return owner.numbers()


def refuse(control: HasDescriptor, error: Exception) -> None:
    """Tell the other side why this side refuses it, unless it has gone."""
    if isinstance(error, OtherRecords):
        text = _OTHER_RECORDS + b" "
    elif isinstance(error, SameRole):
        text = _FAILED + b"%d " % errno.EADDRINUSE
    elif isinstance(error, OSError):
        # This side lacks descriptors. As EMFILE the other side would take it for its own lack.
        code = errno.ECONNREFUSED if error.errno in LACKING else error.errno
        text = _FAILED + b"%d " % (code or errno.ECONNREFUSED)
    elif isinstance(error, WrongPartner):
        text = _SOMEBODY_ELSE + b" "
    else:
        text = _REFUSED + b" "
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    try:
        say(control, text + why.encode(errors="replace")[:_LONGEST_REASON])
    except (PeerLost, OSError):
        return


def lacking(role: Role, error: OSError) -> OSError:
    """Make the error that tells the other side that this side has no descriptor left."""
    whose = "system" if error.errno == errno.ENFILE else role
    return OSError(
        error.errno,
        f"the {whose} has no file descriptor left for this channel; a channel takes "
        f"{A_CHANNEL_TAKES} of them on each side",
    )


def check_answer(text: bytes, partner: Role) -> None:
    """Raise the error that a text stands for; do nothing if it stands for none.

    Raises LayoutMismatch with the other side's reason, OSError when this side did nothing wrong
    (EADDRINUSE when the other side has the same role), PeerLost when the other side went away.
    """
    if not text:
        raise PeerLost(f"the {partner} went away before it took the channel; is it still running?")
    if text.startswith(_FAILED):
        code, _, why = text.removeprefix(_FAILED).partition(b" ")
        if code.isdigit() and len(code) < 5:
            raise OSError(int(code), why.decode(errors="replace"))
    if text.startswith(_SOMEBODY_ELSE):
        raise LayoutMismatch(text.removeprefix(_SOMEBODY_ELSE).strip().decode(errors="replace"))
    for kind, error in ((_OTHER_RECORDS, OtherRecords), (_REFUSED, LayoutMismatch)):
        if text.startswith(kind):
            why = text.removeprefix(kind).strip()
            raise error(f"the {partner} refused the channel: {why.decode(errors='replace')}")


def unknown(text: bytes) -> LayoutMismatch:
    """Make the error for a text that this version does not know."""
    known = b", ".join(_HELLOS).decode()
    return LayoutMismatch(f"the other side said {text[:32]!r}; this ringbell knows {known}")


# ---- the side that made the memory ----


def offer(
    owned: Descriptors,
    role: Role,
    made: segment.Segment,
    policy: Policy,
    deadline: float | None,
    path: Path | None = None,
) -> Channel:
    """Hand a segment to the listener that this side connected to, and wait for its welcome.

    Then the channel owns the descriptors. Raises what `receive_welcome` raises, and TimeoutError.
    """
    peer_of(owned.control)
    wake_fds = owned.numbers() or make_wake_fds(owned)
    # Opened first: the other side may look at our indices as soon as it has the segment.
    channel = open_channel(owned, made, policy)
    try:
        say_hello(owned.control, role, [made.descriptor, *wake_fds], policy.codec)
        receive_welcome(owned.control, PARTNERS[role], deadline, path)
    except BaseException as error:
        # No goodbye to a consumer: it may have the memory, and would take it for an empty stream.
        channel.close(goodbye=role != "producer")
        if isinstance(error, TimeoutError):
            text = f"the {PARTNERS[role]} did not answer within the timeout"
            raise TimeoutError(text) from None
        raise
    return channel


def open_channel(owned: Descriptors, made: segment.Segment, policy: Policy) -> Channel:
    """Open the channel on the side that made the memory."""
    return Channel(
        lib.RB_DRIVER,
        owned,
        policy,
        header=made.header,
        segment=made.descriptor,
        peer_pid=peer_of(owned.control),
    )


def say_hello(
    control: HasDescriptor,
    role: Role,
    descriptors: Sequence[int] = (),
    codec: Codec | None = None,
) -> None:
    """Say the role of this side and the name of its codec, and pass the descriptors.

    Raises nothing when the other side has gone: the caller hears next, and finds the reason if the
    other side has said one.
    """
    (hello,) = (hello for hello, says in _HELLOS.items() if says == role)
    if codec:
        hello += _CODEC + codec.name.encode()
    with suppress(PeerLost):
        say(control, hello, descriptors)


def receive_welcome(
    control: HasDescriptor,
    partner: Role,
    deadline: float | None = None,
    path: Path | None = None,
) -> None:
    """Wait for the other side's answer; raises TimeoutError, and what `check_answer` raises."""
    answer = wait_to_hear(Descriptors(control), deadline, path)
    if answer != WELCOME:
        check_answer(answer, partner)
        raise unknown(answer)


# ---- the other side ----


def check_hello(text: bytes, owned: Descriptors, mine: Role, codec: Codec | None) -> None:
    """Check the first text of the other side, and the descriptors that came with it.

    `mine` is the role of this side, `codec` its codec. Raises LayoutMismatch when this version does
    not know the text, the number of descriptors is wrong, or the other side has another codec;
    SameRole when the other side has the role `mine`; WrongPartner when it has another role that
    cannot meet `mine`.
    """
    hello, has_codec, name = text.partition(_CODEC)
    role = _HELLOS.get(hello)
    if role is None:
        raise unknown(text)
    received = len(owned.wake_fds)
    expected = _COME[role]
    if received != expected:
        most = MOST_DESCRIPTORS
        count = str(received) if received <= most else f"more than {most}"
        raise LayoutMismatch(f"the {role} sent {count} descriptors, not {expected}")
    if role == mine:
        raise SameRole(f"another {mine} waits for the {PARTNERS[mine]} under this name already")
    if role != PARTNERS[mine]:
        raise WrongPartner(
            f"{_DOES[mine]} under this name, and a {role} cannot meet a {mine}; use "
            f"{_MEET_BY[mine]}, or another name"
        )
    theirs, ours = name.decode(errors="replace") if has_codec else "bytes", name_of(codec)
    if theirs != ours:
        # A device goes on listening for other drivers. The sides of a stream came for each other.
        error = LayoutMismatch if role == "driver" else OtherRecords
        raise error(
            f"the {role}'s codec is {theirs!r}, and the {mine}'s is {ours!r}; give both sides the "
            "same codec="
        )
    if received:
        # In one step, so that each descriptor has exactly one owner at any time.
        owned.segment, *owned.wake_fds = owned.wake_fds


def check_memory(
    owned: Descriptors, check: Callable[[bytes, int], None], readers: bool = False
) -> bytes:
    """Check the segment that came with the other side's hello; give its header.

    Calls `check` with the text that describes the records of the doorbell ring (b"" for messages)
    and the size of its slots. `check` raises if this side does not want them.
    """
    assert owned.segment is not None, "check_hello has been here"
    header, description = segment.check(owned.segment.fileno(), readers)
    check(description, lib.rb_header_slot_size(header))
    for descriptor in owned.numbers():
        _check_eventfd(descriptor)
        os.set_blocking(descriptor, False)
    return header


def take_over(
    owned: Descriptors, header: bytes, policy: Policy, page: int | None = None
) -> Channel:
    """Map the segment that came with the other side's hello; the channel owns the descriptors."""
    assert owned.segment is not None, "check_hello has been here"
    return Channel(
        lib.RB_DEVICE,
        owned,
        policy,
        header=header,
        segment=owned.segment.fileno(),
        peer_pid=peer_of(owned.control),
        page=page,
    )


def welcome(channel: Channel, control: HasDescriptor) -> Channel:
    """Tell the other side that this side has taken the channel."""
    try:
        say(control, WELCOME)
    except BaseException:
        channel.close()
        raise
    return channel


def _check_eventfd(descriptor: int) -> None:
    try:
        kind = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115  (not a path)
    except OSError:
        return  # no /proc here
    if kind != "anon_inode:[eventfd]":
        raise LayoutMismatch(f"the other side sent {kind} where an eventfd belongs")
