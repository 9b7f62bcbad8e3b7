# SPDX-License-Identifier: MIT
"""`produce` and `consume`: one-way streams, of messages or of records."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, overload

from ringbell.meeting import segment
from ringbell.meeting.address import prepare_folder, socket_path
from ringbell.pinning import pin
from ringbell.policy import MAX_POLL, MAX_SHARE, Kick, Moderation, Policy, Polling
from ringbell.streams.meeting import ConsumerMeeting, ProducerMeeting
from ringbell.streams.messages import MessageConsumer, MessageProducer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from numpy.typing import DTypeLike

    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

    class _EitherConsumer(MessageConsumer, RecordConsumer):
        """What type checkers see where the producer says which of the two it is."""

        __slots__ = ()

        @property
        def _borrow(self) -> Any: ...  # noqa: ANN401
        def borrow(self, *args: Any, **options: Any) -> Any: ...  # noqa: ANN401
        def __iter__(self) -> Iterator[Any]: ...


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
) -> MessageProducer | RecordProducer:
    """Begin a one-way stream to the process that consumes it under `name`.

    With a `dtype` (structured or plain, nested and with sub-arrays; no objects) it carries records
    of that, which go in and out as NumPy arrays; without, messages. Whichever side starts first
    waits for the other, `timeout` seconds, None for ever. Once the two have met the name is free
    again, for the next two.

    Makes the shared memory: a ring of `ring_size` bytes, a power of two. A ring of records holds
    as many as fit there, a power of two, and fills whole pages: where a record has an odd number of
    bytes, it holds at least 4,096. The other options are those of `connect`.

    Raises TimeoutError, LayoutMismatch when the consumer wants another dtype, OSError (EADDRINUSE)
    when another producer waits under this name, OSError (ENOSPC) when /dev/shm is too full,
    TypeError or ValueError for a dtype that cannot lie in shared memory and for bad options.
    """
    policy = Policy(polling, max_poll, max_share, kick)
    path = socket_path(name)
    if dtype is None:
        records = None
        made = segment.create_stream(ring_size)
    else:
        from ringbell.streams import dtypes  # NumPy takes longer to load than all the rest

        records = dtypes.record_dtype(dtype)
        made = segment.create_stream(ring_size, records.itemsize, dtypes.describe(records))
    with made:
        prepare_folder(path)
        pin(cpu)
        channel = ProducerMeeting(name, path, policy, timeout, made).meet()
    if records is None:
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
) -> _EitherConsumer: ...
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

    The producer says what the stream carries, messages or records of some dtype. With a `dtype`
    this side checks that, without one it takes what comes. Whichever side starts first waits for
    the other, `timeout` seconds, None for ever. The options are those of `connect`.

    With a `dtype` the type is RecordConsumer. Without, type checkers let do what either of the two
    can do, as only the producer knows which it is.

    Raises TimeoutError, LayoutMismatch when the stream carries something else than `dtype` or is
    of another version, OSError (EADDRINUSE) when another consumer waits under this name, ValueError
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
    meeting = ConsumerMeeting(name, path, policy, timeout, wanted)
    channel = meeting.meet()
    if meeting.found is None:
        return MessageConsumer(channel)
    try:
        from ringbell.streams.record_consumer import RecordConsumer

        return RecordConsumer(channel, meeting.found)
    except BaseException:
        channel.close()
        raise
