# SPDX-License-Identifier: MIT
"""`publish` and `subscribe`: streams of one writer and many readers."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, SupportsIndex, overload

from ringbell._ffi import lib
from ringbell.arguments import real_number, shown, whole_number
from ringbell.channel.channel import Channel
from ringbell.channel.descriptors import Descriptor, Descriptors
from ringbell.meeting import segment
from ringbell.meeting.address import prepare_folder, socket_path
from ringbell.meeting.reception import Reception
from ringbell.pinning import pin
from ringbell.policy import (
    MAX_POLL,
    MAX_SHARE,
    Blocks,
    Kick,
    Moderation,
    Policy,
    Polling,
    check_blocks,
)
from ringbell.publishing.meeting import SubscriberMeeting
from ringbell.publishing.publisher import MessagePublisher
from ringbell.publishing.readers import Readers
from ringbell.publishing.subscriber import MessageSubscriber
from ringbell.streams.opening import codec_of_messages, described, records_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal, Unpack

    from numpy.typing import DTypeLike

    from ringbell._types import (
        AnyCodec,
        ConsumeOptions,
        ObjectCodec,
        ObjectMessagePublisher,
        ObjectMessageSubscriber,
        PublishOptions,
    )
    from ringbell.publishing.lent import Lent
    from ringbell.publishing.record_publisher import RecordPublisher
    from ringbell.publishing.record_subscriber import RecordSubscriber

    class _EitherSubscriber(MessageSubscriber, RecordSubscriber):
        """For type checkers: only the publisher knows which of the two it is."""

        __slots__ = ()

        @property
        def _borrow(self) -> Any: ...  # noqa: ANN401
        @property
        def _latest(self) -> Any: ...  # noqa: ANN401
        def borrow(  # type: ignore[override]
            self,
            *args: Any,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> Lent[Any]: ...
        def latest(self, timeout: float | None = None) -> Any: ...  # noqa: ANN401
        def __iter__(self) -> Iterator[Any]: ...


_MOST_READERS = 64


@overload
def publish(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[PublishOptions],
) -> MessagePublisher: ...
@overload
def publish(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[PublishOptions],
) -> RecordPublisher: ...
@overload
def publish(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[PublishOptions],
) -> ObjectMessagePublisher: ...
def publish(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    keep: segment.Keep = "all",
    min_readers: int | None = None,
    stall: float | None = None,
    ring_size: int = segment.RING_SIZE,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    memory: segment.Memory | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> MessagePublisher | RecordPublisher:
    """Publish a stream under `name`, for up to 64 processes that subscribe, who come and go.

    Without a `dtype` it carries messages, or objects with a `codec`; with one it carries records,
    as `produce`. Does not block. Keeps the name until it is closed.

    - `keep="all"`: each subscriber gets every entry from the moment on at which it came, and the
      slowest one holds the writer back when the ring is full. `keep="newest"`: the writer never
      waits. A subscriber that falls behind skips what has been overwritten, and counts it; none
      sees half an entry. An entry may take half the ring there.
    - `min_readers`: the first entry waits until so many have subscribed. None is 1 with `"all"`, so
      that either side may start first, and 0 with `"newest"`. With 0 and nobody there, entries go
      to nobody.
    - `stall`: seconds. A subscriber that holds the writer back for so long without moving is let
      go, and gets LetGo when it goes on. None waits for ever for those that live. One that dies or
      closes never holds the writer back.

    The other options are those of `produce`. With `blocks` a large message lies in a block until
    the last subscriber has dropped it; where the newest are kept, the pool should have room for
    what subscribers hold and for two more. Sending waits for room, or for `min_readers`, and raises
    RingFull after its timeout.

    Raises OSError (EADDRINUSE) when the name is in use, (ENOSPC) when there is too little memory,
    (EMFILE, ENFILE) when there is no file descriptor left; TypeError or ValueError for a dtype that
    cannot lie in shared memory and for bad options.
    """
    policy = Policy(
        polling, max_poll, max_share, kick, codec=codec_of_messages(codec, dtype), blocks=blocks
    )
    check_blocks(blocks, dtype)
    awaited = _check_readers(keep, min_readers)
    stall_ns = _check_stall(keep, stall)
    path = socket_path(name)
    records = records_from(dtype)
    size, description = described(records)
    if keep == "newest" and size:
        ring_size = _room_for_newest(ring_size, size)
    with ExitStack() as stack:
        made = stack.enter_context(
            segment.create_stream(ring_size, size, description, memory, keep)
        )
        prepare_folder(path)
        reception = stack.enter_context(Reception(path))
        life, control = Descriptor(), Descriptor()
        if status := lib.rb_socket_pair(life.handle, control.handle):
            raise OSError(-status, f"cannot make a socket: {os.strerror(-status)}")
        stack.enter_context(life)
        with Descriptors(control) as owned:
            wakes = Descriptor()
            owned.wake_fds += [wakes, wakes]
            if status := lib.rb_owned_eventfd(wakes.handle):
                raise OSError(-status, f"cannot make an eventfd: {os.strerror(-status)}")
            channel = Channel(
                lib.RB_DRIVER,
                owned,
                policy,
                header=made.header,
                segment=made.descriptor,
                peer_pid=0,
            )
        stack.callback(channel.close)
        made.seal_for_writer()
        if lib.rb_readers_begin(channel.handle, keep == "newest", awaited, stall_ns):
            raise MemoryError("no memory for the readers")
        pin(cpu)
        publisher: MessagePublisher | RecordPublisher
        if records is None:
            publisher = MessagePublisher(channel)
        else:
            from ringbell.publishing.record_publisher import RecordPublisher

            publisher = RecordPublisher(channel, records, description)
        publisher._readers = Readers(channel, made, policy, reception, life, wakes)
        stack.pop_all()
    return publisher


def _check_readers(keep: object, min_readers: SupportsIndex | None) -> int:
    complaint = "keep is 'all' or 'newest'"
    if not isinstance(keep, str):
        raise TypeError(f"{complaint}, not {shown(keep)}")
    if keep not in ("all", "newest"):
        raise ValueError(f"{complaint}, not {shown(keep)}")
    if min_readers is None:
        return 1 if keep == "all" else 0
    complaint = f"min_readers is from 0 to {_MOST_READERS}, or None"
    return whole_number(min_readers, 0, _MOST_READERS, complaint)


def _check_stall(keep: str, stall: float | None) -> int:
    """Give nanoseconds, 0 for None."""
    if stall is None:
        return 0
    if keep == "newest":
        raise ValueError("stall is for keep='all'; with keep='newest' nobody holds the writer back")
    complaint = "stall is a number of seconds above 0, or None"
    seconds = real_number(stall, complaint)
    if not 0 < seconds < 1e9 or math.isnan(seconds):
        raise ValueError(f"{complaint}, not {shown(stall)}")
    return max(int(seconds * 1e9), 1)


def _room_for_newest(ring_size: int, record_size: int) -> int:
    """Make room for 4 records: the newest whole one stays while the next is written."""
    size = segment.check_ring_size(ring_size)
    while segment.records_in(size, record_size) < 4:
        size *= 2
    if size > segment.LONGEST_RING:
        raise ValueError(
            f"a ring that keeps the newest has room for 4 records, which is more than its most of "
            f"{segment.LONGEST_RING} bytes for records of {record_size}"
        )
    return size


@overload
def subscribe(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ConsumeOptions],
) -> _EitherSubscriber: ...
@overload
def subscribe(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ConsumeOptions],
) -> RecordSubscriber: ...
@overload
def subscribe(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[ConsumeOptions],
) -> ObjectMessageSubscriber: ...
def subscribe(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    timeout: float | None = None,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    moderation: Moderation | None = None,
    checked: bool = False,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
) -> MessageSubscriber | RecordSubscriber:
    """Take the stream that another process publishes under `name`, beside other subscribers.

    Gets every entry from now on; or, if the publication keeps the newest, what is not overwritten
    yet, from the newest entry on that is there. Waits `timeout` seconds for a publisher, None for
    ever. A publisher that is started again is another one: subscribe again. The other options, and
    what the publication may carry, are those of `consume`.

    Raises TimeoutError when nobody published in time; LayoutMismatch when the publication carries
    something else than `dtype`, or when the name is not a publication's; OSError (EUSERS) when 64
    have subscribed, (EMFILE, ENFILE) when there is no file descriptor left; TypeError or ValueError
    for a bad `dtype` and for bad options.
    """
    policy = Policy(
        polling,
        max_poll,
        max_share,
        moderation=moderation,
        max_message=max_message,
        codec=codec_of_messages(codec, dtype),
    )
    path = socket_path(name)
    wanted = records_from(dtype)
    pin(cpu)
    meeting = SubscriberMeeting(name, path, policy, timeout, wanted)
    channel = meeting.find_partner()
    if meeting.found is None:
        return MessageSubscriber(channel)
    try:
        from ringbell.publishing.record_subscriber import RecordSubscriber

        return RecordSubscriber(channel, meeting.found, checked)
    except BaseException:
        channel.close()
        raise
