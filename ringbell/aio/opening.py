# SPDX-License-Identifier: MIT
"""`connect`, `listen`, `produce`, `consume` and `gather`, as the blocking ones, for tasks."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast, overload

from ringbell.aio.consumer import MessageConsumer, RecordConsumer
from ringbell.aio.driver import Driver
from ringbell.aio.gather import Gather
from ringbell.aio.listener import Listener
from ringbell.aio.opened import Opening, meet_pinned, policy_of
from ringbell.aio.producer import MessageProducer, RecordProducer
from ringbell.calls import opening as calls
from ringbell.meeting import segment
from ringbell.policy import Blocks, Kick, Moderation
from ringbell.streams import opening as streams
from ringbell.streams.messages import MessageConsumer as BlockingMessageConsumer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Literal, Unpack

    from numpy.typing import DTypeLike, NDArray

    from ringbell._types import AnyCodec, ObjectCodec
    from ringbell.aio._types import ConnectOptions, ConsumeOptions, ListenOptions, ProduceOptions
    from ringbell.streams.gathered_producer import GatheredProducer

    class _EitherConsumer(MessageConsumer, RecordConsumer):
        """For type checkers: only the producer knows which of the two it is."""

        _end: Any  # pyright: ignore[reportIncompatibleVariableOverride]

        async def borrow(self, *args: Any, **options: Any) -> Any: ...  # noqa: ANN401
        def __aiter__(self) -> AsyncIterator[Any]: ...  # type: ignore[override]
        async def __anext__(self) -> Any: ...  # noqa: ANN401


@overload
def connect(
    name: str | os.PathLike[str],
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ConnectOptions],
) -> Opening[Driver]: ...
@overload
def connect(
    name: str | os.PathLike[str],
    *,
    codec: ObjectCodec,
    **options: Unpack[ConnectOptions],
) -> Opening[Any]: ...
def connect(
    name: str | os.PathLike[str],
    *,
    ring_size: int = segment.RING_SIZE,
    timeout: float | None = calls.CONNECT_SECONDS,
    wait: bool = False,
    cpu: int | None = None,
    max_poll: float = 0.0,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    blocks: Blocks | None = None,
    memory: segment.Memory | None = None,
    codec: AnyCodec = "bytes",
) -> Opening[Driver]:
    """Open a channel to the device that listens under `name`, and drive it.

    `async with connect("sha256") as driver: answer = await driver.call(b"...")`. Waits until the
    device accepts; other tasks run meanwhile. The options and the errors are those of
    `ringbell.connect`, but for one:

    - `max_poll`: seconds, from 0 to 0.01. A call that finds no other call waiting looks at shared
      memory for so long before it lets other tasks run. With a device that answers within that time
      the answer comes several times sooner, as nobody has to be woken. The cost: no other task of
      this loop runs while it looks. 0, the default, does not look.

    A thread does the waiting, and `cpu` pins the thread of the loop.
    """

    async def open_it() -> Driver:
        opening: Any = partial(
            cast("Any", calls.connect),
            name,
            ring_size=ring_size,
            timeout=timeout,
            wait=wait,
            kick=kick,
            moderation=moderation,
            max_message=max_message,
            blocks=blocks,
            memory=memory,
            codec=codec,
            **policy_of(max_poll),
        )
        return Driver(await meet_pinned(opening, cpu), max_poll)

    return Opening(open_it)


@overload
def listen(
    name: str | os.PathLike[str],
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ListenOptions],
) -> Opening[Listener]: ...
@overload
def listen(
    name: str | os.PathLike[str],
    *,
    codec: ObjectCodec,
    **options: Unpack[ListenOptions],
) -> Opening[Any]: ...
def listen(
    name: str | os.PathLike[str],
    *,
    cpu: int | None = None,
    max_poll: float = 0.0,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> Opening[Listener]:
    """Listen for drivers under `name`; a name with a slash is the path of the Unix socket.

    `async with listen("sha256") as listener: device = await listener.accept()`. The options and the
    errors are those of `ringbell.listen`. `max_poll` is as in `connect`: a device that finds no
    request looks for so long before it lets other tasks run.
    """

    async def open_it() -> Listener:
        opening: Any = partial(
            cast("Any", calls.listen),
            name,
            kick=kick,
            moderation=moderation,
            max_message=max_message,
            codec=codec,
            blocks=blocks,
            **policy_of(max_poll),
        )
        return Listener(await meet_pinned(opening, cpu), max_poll)

    return Opening(open_it)


@overload
def produce(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    ring_size: int = ...,
    timeout: float | None = ...,
    cpu: int | None = ...,
    kick: Kick = ...,
    memory: segment.Memory | None = ...,
    codec: Literal["bytes"] = ...,
    blocks: Blocks | None = ...,
) -> Opening[MessageProducer]: ...
@overload
def produce(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    ring_size: int = ...,
    timeout: float | None = ...,
    cpu: int | None = ...,
    kick: Kick = ...,
    memory: segment.Memory | None = ...,
    codec: Literal["bytes"] = ...,
) -> Opening[RecordProducer]: ...
@overload
def produce(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[ProduceOptions],
) -> Opening[Any]: ...
def produce(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    ring_size: int = segment.RING_SIZE,
    timeout: float | None = None,
    cpu: int | None = None,
    kick: Kick = "asleep",
    memory: segment.Memory | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> Opening[MessageProducer] | Opening[RecordProducer]:
    """Begin a one-way stream to the process that consumes it under `name`.

    `async with produce("ticks", dtype=tick) as ticks: await ticks.write(rows)`. Waits for the
    consumer; other tasks run meanwhile. The options and the errors are those of `ringbell.produce`.
    """

    async def open_it() -> Any:  # noqa: ANN401  (one of two)
        opening: Any = partial(
            cast("Any", streams.produce),
            name,
            dtype,
            ring_size=ring_size,
            timeout=timeout,
            polling="never",
            kick=kick,
            memory=memory,
            codec=codec,
            blocks=blocks,
        )
        end: Any = await meet_pinned(opening, cpu)
        return MessageProducer(end) if dtype is None else RecordProducer(end)

    return Opening(open_it)


@overload
def consume(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    timeout: float | None = ...,
    cpu: int | None = ...,
    max_poll: float = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> Opening[_EitherConsumer]: ...
@overload
def consume(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    timeout: float | None = ...,
    cpu: int | None = ...,
    max_poll: float = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> Opening[RecordConsumer]: ...
@overload
def consume(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[ConsumeOptions],
) -> Opening[Any]: ...
def consume(
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
    """Take the stream that another process produces under `name`.

    `async with consume("ticks") as ticks: async for rows in ticks: ...`. Waits for the producer;
    other tasks run meanwhile. The options and the errors are those of `ringbell.consume`.
    `max_poll` is as in `connect`: a task that finds nothing looks for so long before it lets other
    tasks run.

    With a `dtype` the result is a RecordConsumer. Without one only the producer knows which class
    it is, so type checkers accept the methods of both.
    """

    async def open_it() -> Any:  # noqa: ANN401  (one of two)
        opening: Any = partial(
            cast("Any", streams.consume),
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
        if isinstance(end, BlockingMessageConsumer):
            return MessageConsumer(end, max_poll)
        return RecordConsumer(end, max_poll)

    return Opening(open_it)


@overload
def gather(
    name: str | os.PathLike[str],
    dtype: None = None,
    *,
    timeout: float | None = ...,
    arrived: Callable[[GatheredProducer], object] | None = ...,
    left: Callable[[GatheredProducer], object] | None = ...,
    cpu: int | None = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: AnyCodec = ...,
) -> Opening[Gather[Any]]: ...
@overload
def gather(
    name: str | os.PathLike[str],
    dtype: DTypeLike,
    *,
    timeout: float | None = ...,
    arrived: Callable[[GatheredProducer], object] | None = ...,
    left: Callable[[GatheredProducer], object] | None = ...,
    cpu: int | None = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> Opening[Gather[NDArray[Any]]]: ...
def gather(
    name: str | os.PathLike[str],
    dtype: DTypeLike | None = None,
    *,
    timeout: float | None = streams.GATHER_SECONDS,
    arrived: Callable[[GatheredProducer], object] | None = None,
    left: Callable[[GatheredProducer], object] | None = None,
    cpu: int | None = None,
    moderation: Moderation | None = None,
    checked: bool = False,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
) -> Opening[Gather[Any]]:
    """Take the streams of all processes that produce under `name`, who come and go.

    `async with gather("logs") as logs: async for producer, rows in logs: ...`. The options and the
    errors are those of `ringbell.gather`. `arrived` and `left` are functions; they run in the loop,
    when the gather is opened and while a task takes.
    """

    async def open_it() -> Gather[Any]:
        opening: Any = partial(
            cast("Any", streams.gather),
            name,
            dtype,
            timeout=timeout,
            left=left,
            moderation=moderation,
            checked=checked,
            max_message=max_message,
            codec=codec,
            polling="never",
        )
        opened = await meet_pinned(opening, cpu)
        try:
            return Gather(opened, arrived)
        except BaseException:  # of `arrived`
            opened.close()
            raise

    return Opening(open_it)
