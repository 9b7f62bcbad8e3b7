# SPDX-License-Identifier: MIT
"""`produce` and `consume`: one-way streams, of messages or of records."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, overload

from ringbell.codecs import Codec, codec_from
from ringbell.meeting import segment
from ringbell.meeting.address import prepare_folder, socket_path
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
from ringbell.streams.consuming import consume_channel
from ringbell.streams.gather import Gather
from ringbell.streams.gather_meeting import GatherMeeting
from ringbell.streams.meeting import ConsumerMeeting, ProducerMeeting
from ringbell.streams.messages import MessageConsumer, MessageProducer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Literal, Unpack

    import numpy as np
    from numpy.typing import DTypeLike, NDArray

    from ringbell._types import (
        AnyCodec,
        ConsumeOptions,
        GatherOptions,
        ObjectCodec,
        ObjectMessageConsumer,
        ObjectMessageProducer,
        ProduceOptions,
    )
    from ringbell.streams.gathered_producer import GatheredProducer
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

    class _EitherConsumer(MessageConsumer, RecordConsumer):
        """For type checkers: only the producer knows which of the two it is."""

        __slots__ = ()

        @property
        def _borrow(self) -> Any: ...  # noqa: ANN401
        @property
        def _latest(self) -> Any: ...  # noqa: ANN401
        def borrow(self, *args: Any, **options: Any) -> Any: ...  # noqa: ANN401
        def __iter__(self) -> Iterator[Any]: ...


GATHER_SECONDS = 10.0
"""How long `gather` waits by default for a producer that has the name."""


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
    memory: segment.Memory | None = ...,
    codec: Literal["bytes"] = ...,
    blocks: Blocks | None = ...,
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
    memory: segment.Memory | None = ...,
    codec: Literal["bytes"] = ...,
) -> RecordProducer: ...
@overload
def produce(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[ProduceOptions],
) -> ObjectMessageProducer: ...
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
    memory: segment.Memory | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> MessageProducer | RecordProducer:
    """Begin a one-way stream to the process that consumes it under `name`.

    Without a `dtype` the stream carries messages, or objects with a `codec`. With one it carries
    records of that dtype, which go in and out as NumPy arrays. The dtype may be structured, nested
    and have sub-arrays, but no objects. Either side may start first: it waits `timeout` seconds for
    the other, None for ever. If other producers wait under this name, this one waits behind them.
    Once the two have met, the name is free for the next two; a consumer that called `gather` keeps
    it, and takes all.

    Makes the shared memory: a ring of `ring_size` bytes, a power of two. The number of records in
    the ring is a power of two, as many as fit; and they fill whole pages, so a ring of records with
    an odd number of bytes holds at least 4,096. The other options are those of `connect`.

    Raises TimeoutError when no consumer came in time; LayoutMismatch when the consumer wants
    something else; OSError (EADDRINUSE) when another producer waited under this name all the time,
    (ENOSPC) when there is too little memory, (EMFILE, ENFILE) when there is no file descriptor
    left; TypeError or ValueError for a dtype that cannot lie in shared memory and for bad options.
    Warns (UserWarning) when the ring has room for one record only.
    """
    policy = Policy(
        polling, max_poll, max_share, kick, codec=codec_of_messages(codec, dtype), blocks=blocks
    )
    check_blocks(blocks, dtype)
    path = socket_path(name)
    records = records_from(dtype)
    size, description = described(records)
    with segment.create_stream(ring_size, size, description, memory) as made:
        if records is not None:
            _warn_of_one_record(ring_size, records.itemsize)
        prepare_folder(path)
        pin(cpu)
        channel = ProducerMeeting(name, path, policy, timeout, made).find_partner()
    if records is None:
        return MessageProducer(channel)
    from ringbell.streams.record_producer import RecordProducer

    return RecordProducer(channel, records, description)


def records_from(dtype: DTypeLike | None) -> np.dtype[Any] | None:
    """Read the option `dtype`; None stands for messages. Raises TypeError or ValueError."""
    if dtype is None:
        return None
    from ringbell.streams import dtypes  # NumPy takes longer to load than all the rest

    return dtypes.record_dtype(dtype)


def described(records: np.dtype[Any] | None) -> tuple[int, bytes]:
    """Give the bytes of a record, and the text that describes it; for messages 0 and b""."""
    if records is None:
        return 0, b""
    from ringbell.streams import dtypes

    return records.itemsize, dtypes.describe(records)


def codec_of_messages(codec: AnyCodec, dtype: object) -> Codec | None:
    """Read the option `codec`; raises ValueError if there are records."""
    read = codec_from(codec)
    if read and dtype is not None:
        raise ValueError(
            f"a stream has records of a dtype, or objects of the codec {read.name!r}, not both; "
            "leave one of the two out"
        )
    return read


def _warn_of_one_record(ring_size: int, record_size: int) -> None:
    """Warn when the producer and the consumer will wait for each other all the time."""
    if segment.records_in(ring_size, record_size) > 1:
        return
    wanted = min(1 << (4 * record_size - 1).bit_length(), segment.LONGEST_RING)
    better = segment.records_in(wanted, record_size)
    remedy = f"; ring_size={wanted} has room for {better}" if better > 1 else ""
    warnings.warn(
        f"the ring has room for one record of {record_size} bytes, so the producer and the "
        f"consumer wait for each other at every record{remedy}",
        stacklevel=3,
    )


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
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
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
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> RecordConsumer: ...
@overload
def consume(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[ConsumeOptions],
) -> ObjectMessageConsumer: ...
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
    checked: bool = False,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
) -> MessageConsumer | RecordConsumer:
    """Take the stream that another process produces under `name`.

    The producer decides what the stream carries: messages, or records of some dtype. With a
    `dtype` this side checks that; without one it takes any stream. Objects need the producer's
    `codec` here, too. Either side may start first: it
    waits `timeout` seconds for the other, None for ever. The other options are those of `connect`.

    `checked=True` is for tests and development. Then borrowed arrays of records are copies. They
    raise RuntimeError when they are used after their step, and their memory is overwritten.
    Messages need no such check: their views always raise.

    With a `dtype` the result is a RecordConsumer. Without one only the producer knows which class
    it is, so type checkers accept the methods of both.

    Raises TimeoutError when no producer came in time; LayoutMismatch when the stream carries
    something else than `dtype`, or is of another version; OSError (EADDRINUSE) when another
    consumer waits under this name, (EMFILE, ENFILE) when there is no file descriptor left;
    TypeError or ValueError for a bad `dtype` and for bad options.
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
    prepare_folder(path)
    pin(cpu)
    meeting = ConsumerMeeting(name, path, policy, timeout, wanted)
    channel = meeting.find_partner()
    return consume_channel(channel, meeting.found, checked)


@overload
def gather(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    timeout: float | None = ...,
    arrived: Callable[[GatheredProducer], object] | None = ...,
    left: Callable[[GatheredProducer], object] | None = ...,
    cpu: int | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> Gather[Any]: ...
@overload
def gather(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    timeout: float | None = ...,
    arrived: Callable[[GatheredProducer], object] | None = ...,
    left: Callable[[GatheredProducer], object] | None = ...,
    cpu: int | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> Gather[NDArray[Any]]: ...
@overload
def gather(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[GatherOptions],
) -> Gather[Any]: ...
def gather(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    timeout: float | None = GATHER_SECONDS,
    arrived: Callable[[GatheredProducer], object] | None = None,
    left: Callable[[GatheredProducer], object] | None = None,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    moderation: Moderation | None = None,
    checked: bool = False,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
) -> Gather[Any]:
    """Take the streams of all processes that produce under `name`, who come and go.

    `with ringbell.gather("logs") as logs: for producer, rows in logs: ...`; with messages it is
    `for producer, payload in logs`. Keeps the name until it is closed. Does not wait for producers:
    the loop does, and lets them in. The producers call `produce`, and may start before or after
    this. All carry messages, or records of one dtype: `dtype`, or what the first of them carries.
    With a `codec` all carry its objects, and the loop gives them as `recv` does. A producer with
    anything else gets LayoutMismatch, the log a warning, and the gather goes on.

    Calls `arrived` with each producer that has come, and `left` when it has gone and all that it
    sent has been taken. If it died or gave up, `producer.lost` is true by then, and the log gets a
    warning; nobody else notices. An exception of these two comes out of the loop.

    `timeout`: a producer that started first has the name. This is how many seconds it may take to
    answer; None is for ever. The other options are those of `consume`.

    Raises OSError (EADDRINUSE) when another consumer has the name; TimeoutError when a producer has
    it and does not answer, for instance because it has been stopped; LayoutMismatch when no
    producer has it, or one of another version; OSError (EMFILE, ENFILE) when there is no file
    descriptor left; TypeError or ValueError for a bad `dtype` and for bad options.
    """
    policy = Policy(
        polling,
        max_poll,
        moderation=moderation,
        max_message=max_message,
        codec=codec_of_messages(codec, dtype),
    )
    path = socket_path(name)
    wanted = records_from(dtype)
    prepare_folder(path)
    pin(cpu)
    return Gather(GatherMeeting(name, path, policy, timeout, wanted), checked, arrived, left)
