# SPDX-License-Identifier: MIT
"""`publish` and `subscribe`, as the blocking ones, for tasks."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

from ringbell.aio.opened import Opening, meet_pinned, policy_of
from ringbell.aio.publisher import MessagePublisher, RecordPublisher
from ringbell.aio.subscriber import MessageSubscriber, RecordSubscriber
from ringbell.meeting import segment
from ringbell.policy import Blocks, Kick, Moderation
from ringbell.publishing import opening as publications
from ringbell.publishing.subscriber import MessageSubscriber as BlockingMessages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Literal, Unpack

    from numpy.typing import DTypeLike

    from ringbell._types import AnyCodec, ObjectCodec
    from ringbell.aio._types import ConsumeOptions, PublishOptions
    from ringbell.publishing.lent import Lent

    class _EitherSubscriber(MessageSubscriber, RecordSubscriber):
        """For type checkers: only the publisher knows which of the two it is."""

        _end: Any  # pyright: ignore[reportIncompatibleVariableOverride]

        async def borrow(  # type: ignore[override]
            self,
            *args: Any,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> Lent[Any]: ...
        async def latest(self, timeout: float | None = None) -> Any: ...  # noqa: ANN401
        def __aiter__(self) -> AsyncIterator[Any]: ...  # type: ignore[override]
        async def __anext__(self) -> Any: ...  # noqa: ANN401


@overload
def publish(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[PublishOptions],
) -> Opening[MessagePublisher]: ...
@overload
def publish(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[PublishOptions],
) -> Opening[RecordPublisher]: ...
@overload
def publish(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[PublishOptions],
) -> Opening[Any]: ...
def publish(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    keep: segment.Keep = "all",
    min_readers: int | None = None,
    stall: float | None = None,
    ring_size: int = segment.RING_SIZE,
    cpu: int | None = None,
    kick: Kick = "asleep",
    memory: segment.Memory | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> Opening[MessagePublisher] | Opening[RecordPublisher]:
    """Publish a stream under `name`, for up to 64 processes that subscribe, who come and go.

    `async with publish("ticks", tick) as ticks: await ticks.write(rows)`. The options and the
    errors are those of `ringbell.publish`. A thread lets subscribers in, also while the loop is
    busy. A task that sends waits for room, or for `min_readers`; other tasks run meanwhile.
    """

    async def open_it() -> Any:  # noqa: ANN401  (one of two)
        opening: Any = partial(
            cast("Any", publications.publish),
            name,
            dtype,
            keep=keep,
            min_readers=min_readers,
            stall=stall,
            ring_size=ring_size,
            polling="never",
            kick=kick,
            memory=memory,
            codec=codec,
            blocks=blocks,
        )
        end: Any = await meet_pinned(opening, cpu)
        return MessagePublisher(end, keep) if dtype is None else RecordPublisher(end)

    return Opening(open_it)


@overload
def subscribe(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ConsumeOptions],
) -> Opening[_EitherSubscriber]: ...
@overload
def subscribe(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ConsumeOptions],
) -> Opening[RecordSubscriber]: ...
@overload
def subscribe(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[ConsumeOptions],
) -> Opening[Any]: ...
def subscribe(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    timeout: float | None = None,
    cpu: int | None = None,
    max_poll: float = 0.0,
    moderation: Moderation | None = None,
    checked: bool = False,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
) -> Any:
    """Take the stream that another process publishes under `name`, beside other subscribers.

    `async with subscribe("ticks") as ticks: async for rows in ticks: ...`. Waits for a publisher;
    other tasks run meanwhile. The options and the errors are those of `ringbell.subscribe`.
    `max_poll` is as in `connect`: a task that finds nothing looks for so long before it lets other
    tasks run.

    With a `dtype` the result is a RecordSubscriber. Without one only the publisher knows which
    class it is, so type checkers accept the methods of both.
    """

    async def open_it() -> Any:  # noqa: ANN401  (one of two)
        opening: Any = partial(
            cast("Any", publications.subscribe),
            name,
            dtype,
            timeout=timeout,
            moderation=moderation,
            checked=checked,
            max_message=max_message,
            codec=codec,
            **policy_of(max_poll),
        )
        end: Any = await meet_pinned(opening, cpu)
        if isinstance(end, BlockingMessages):
            return MessageSubscriber(end, max_poll)
        return RecordSubscriber(end, max_poll)

    return Opening(open_it)
