# SPDX-License-Identifier: MIT
"""`produce` and `consume`: one-way streams, of messages or of records."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, overload

from ringbell.channel.channel import Channel
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.meeting import handshake, segment
from ringbell.meeting.address import prepare_folder, socket_path
from ringbell.meeting.control_socket import ListeningSocket, connect_socket
from ringbell.pinning import pin
from ringbell.policy import MAX_POLL, MAX_SHARE, Kick, Moderation, Policy, Polling
from ringbell.streams.messages import MessageConsumer, MessageProducer

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

_PAUSE = 0.001  # seconds

# Gets the socket to the other side, where it came from if this side listened, and what closes the
# descriptors until the channel owns them. Who is no partner does not end the listening, or else
# somebody who tries again and again under a name in use would get it.
_OpenChannel = Callable[[socket.socket, ListeningSocket | None, ExitStack], Channel]


@overload
def produce(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    ring_size: int = ...,
    timeout: float | None = ...,
    cpu: int | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    max_share: float = ...,
    kick: Kick = ...,
    first_index: int = ...,
) -> MessageProducer: ...
@overload
def produce(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    ring_size: int = ...,
    timeout: float | None = ...,
    cpu: int | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    max_share: float = ...,
    kick: Kick = ...,
    first_index: int = ...,
) -> RecordProducer: ...
def produce(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    ring_size: int = segment.RING_SIZE,
    timeout: float | None = None,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    first_index: int = 0,
) -> MessageProducer | RecordProducer:
    """Begin a one-way stream to the one who consumes it under `name`.

    With a `dtype` (structured or plain, nested and with sub-arrays; no objects) it carries records
    of that, which go in and out as NumPy arrays; without, messages. Whichever side starts first
    waits for the other, `timeout` seconds, None for ever. Once the two have met the name is free
    again, for the next two.

    Makes the shared memory, a ring of `ring_size` bytes, a power of two. For records: of as many as
    fit there, a power of two, but of whole pages at least, so that a ring of records whose size has
    no factor in common with the page's takes 4,096 times that size. The other options are those of
    `connect`.

    Raises TimeoutError, LayoutMismatch when the consumer wants another dtype, OSError (EADDRINUSE)
    when another producer waits under this name, OSError (ENOSPC) when /dev/shm is too full,
    TypeError or ValueError for a dtype that cannot lie in shared memory and for bad options.
    """
    policy = Policy(polling, max_poll, max_share, kick)
    path = socket_path(name)
    if dtype is None:
        made = segment.create_stream(ring_size, first_index=first_index)
    else:
        from ringbell.streams import dtypes  # NumPy takes longer to load than all the rest

        records = dtypes.record_dtype(dtype)
        made = segment.create_stream(
            ring_size, records.itemsize, dtypes.describe(records), first_index
        )
    with ExitStack() as guard:
        guard.callback(os.close, made.descriptor)
        prepare_folder(path)
        pin(cpu)
        deadline = deadline_after(timeout)

        def hand_over(
            control: socket.socket, listening: ListeningSocket | None, until_opened: ExitStack
        ) -> Channel:
            if listening:
                handshake.peer_of(control)
                handshake.limit_introduction(control, deadline)
                in_use = f"another producer waits for the consumer of {str(name)!r} already"
                handshake.receive_hello(control, until_opened, "producer", in_use)
                listening.close()  # before the other side can think that the name is free
            return handshake.offer(control, "producer", made, policy, deadline, until_opened)

        channel = _meet(path, deadline, hand_over, f"nobody consumed {str(name)!r}")
    if dtype is None:
        return MessageProducer(channel)
    from ringbell.streams.record_producer import RecordProducer

    return RecordProducer(channel, records)


@overload
def consume(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    timeout: float | None = ...,
    cpu: int | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    max_share: float = ...,
    moderation: Moderation | None = ...,
) -> MessageConsumer | RecordConsumer: ...
@overload
def consume(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    timeout: float | None = ...,
    cpu: int | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    max_share: float = ...,
    moderation: Moderation | None = ...,
) -> RecordConsumer: ...
def consume(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    timeout: float | None = None,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    moderation: Moderation | None = None,
) -> MessageConsumer | RecordConsumer:
    """Take the stream that somebody produces under `name`.

    What it carries, messages or records of some dtype, is for the producer to say: with a `dtype`
    that is checked, without it is learnt. Whichever side starts first waits for the other,
    `timeout` seconds, None for ever. The options are those of `connect`.

    Raises TimeoutError, LayoutMismatch when the stream carries something else than `dtype` or is
    another version's, OSError (EADDRINUSE) when another consumer waits under this name, ValueError
    for bad options.
    """
    policy = Policy(polling, max_poll, max_share, moderation=moderation)
    path = socket_path(name)
    wanted = None
    if dtype is not None:
        from ringbell.streams import dtypes

        wanted = dtypes.record_dtype(dtype)
    prepare_folder(path)
    pin(cpu)
    deadline = deadline_after(timeout)
    found = None

    def check(description: bytes, slot_size: int) -> None:
        nonlocal found
        if description:
            from ringbell.streams import dtypes

            found = dtypes.restore(description, slot_size)
        if wanted is not None and (found is None or found != wanted):
            carried = "messages" if found is None else f"records of {found}"
            raise LayoutMismatch(f"the stream carries {carried}, not records of {wanted}")

    def take_over(
        control: socket.socket, listening: ListeningSocket | None, until_opened: ExitStack
    ) -> Channel:
        handshake.peer_of(control)
        if listening:
            handshake.limit_introduction(control, deadline)
        else:
            control.settimeout(seconds_left(deadline))
            handshake.say_hello(control, "consumer", [])
        in_use = f"another consumer waits for the producer of {str(name)!r} already"
        descriptors = handshake.receive_hello(control, until_opened, "consumer", in_use)
        if listening:
            listening.close()  # before the other side can think that the name is free
        return handshake.take_over(control, descriptors, policy, until_opened, check)

    channel = _meet(path, deadline, take_over, f"nobody produced {str(name)!r}")
    if found is None:
        return MessageConsumer(channel)
    try:
        from ringbell.streams.record_consumer import RecordConsumer

        return RecordConsumer(channel, found)
    except BaseException:
        channel.close()
        raise


def _meet(
    path: Path,
    deadline: float | None,
    open_channel: _OpenChannel,
    nobody: str,
) -> Channel:
    """Connect to who is there, or listen until somebody comes, and open the channel."""
    try:
        while True:
            channel = None
            if control := _connect(path, deadline):
                channel = _try(control, None, open_channel, deadline)
            elif listening := _listen(path):
                with listening:
                    while listening.listens and not channel:
                        control = listening.accept_socket(deadline)
                        channel = _try(control, listening, open_channel, deadline)
            elif seconds_left(deadline) == 0:
                raise TimeoutError
            else:
                time.sleep(_PAUSE)
            if channel:
                return channel
    except TimeoutError:
        raise TimeoutError(f"{nobody} within the timeout") from None


def _connect(path: Path, deadline: float | None) -> socket.socket | None:
    try:
        return connect_socket(path, deadline)
    except ConnectionRefusedError:
        return None


def _listen(path: Path) -> ListeningSocket | None:
    """Listen; None when somebody else has locked the name, who will listen before long."""
    try:
        return ListeningSocket(path)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return None
        raise


def _try(
    control: socket.socket,
    listening: ListeningSocket | None,
    open_channel: _OpenChannel,
    deadline: float | None,
) -> Channel | None:
    """Open the channel with whoever that is; None when it is not the partner, or has gone."""
    with ExitStack() as guard:
        guard.callback(control.close)
        try:
            return open_channel(control, listening, guard)
        except (LayoutMismatch, handshake.WrongPartner) as error:
            with suppress(OSError):
                handshake.refuse(control, str(error))
            if isinstance(error, LayoutMismatch):
                raise
        except PermissionError as error:  # another user's
            if not listening or not listening.listens:
                raise
            with suppress(OSError):
                handshake.refuse(control, str(error))
        except (PeerLost, ConnectionError, TimeoutError):
            if seconds_left(deadline) == 0:
                raise TimeoutError from None
    return None
