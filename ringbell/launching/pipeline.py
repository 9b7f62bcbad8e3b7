# SPDX-License-Identifier: MIT
"""`pipeline`: a stream between two new processes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ringbell.arguments import shown
from ringbell.calls.failures import describe_error
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import EndOfStream, PeerLost
from ringbell.launching.inside import Inside
from ringbell.launching.names import private_path
from ringbell.launching.parcel import Parcel
from ringbell.launching.progress import Progress, reported
from ringbell.launching.worker import StartMethod, Worker
from ringbell.meeting.segment import RING_SIZE, Memory
from ringbell.pinning import choose_pair
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
from ringbell.streams.opening import codec_of_messages, consume, produce

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.typing import DTypeLike

    from ringbell._types import (
        AnyCodec,
        ObjectCodec,
        ObjectMessageConsumer,
        ObjectMessageProducer,
        PipelineOptions,
    )
    from ringbell.streams.messages import MessageConsumer, MessageProducer
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

Cpus = tuple[int, int] | Literal["auto"] | None
Watch = Callable[[Progress], object]

_log = logging.getLogger("ringbell")

PAUSE = 0.25
"""Seconds from one report of the progress to the next."""

_LAST_WORDS = 0.5
"""Seconds that a producer has to report its failure, once its consumer has failed."""


@overload
def pipeline(
    producer: Callable[[MessageProducer], object] | str,
    consumer: Callable[[MessageConsumer], object] | str,
    dtype: None = None,
    *,
    cpus: Cpus = ...,
    start_method: StartMethod = ...,
    ring_size: int = ...,
    memory: Memory | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    max_share: float = ...,
    kick: Kick = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
    blocks: Blocks | None = ...,
) -> Any: ...  # noqa: ANN401
@overload
def pipeline(
    producer: Callable[[RecordProducer], object] | str,
    consumer: Callable[[RecordConsumer], object] | str,
    dtype: DTypeLike,
    *,
    cpus: Cpus = ...,
    start_method: StartMethod = ...,
    ring_size: int = ...,
    memory: Memory | None = ...,
    polling: Polling = ...,
    max_poll: float = ...,
    max_share: float = ...,
    kick: Kick = ...,
    moderation: Moderation | None = ...,
    checked: bool = ...,
    max_message: int | None = ...,
    codec: Literal["bytes"] = ...,
) -> Any: ...  # noqa: ANN401
@overload
def pipeline(
    producer: Callable[[ObjectMessageProducer], object] | str,
    consumer: Callable[[ObjectMessageConsumer], object] | str,
    dtype: None = None,
    *,
    codec: ObjectCodec,
    **options: Unpack[PipelineOptions],
) -> Any: ...  # noqa: ANN401
def pipeline(
    producer: Callable[[Any], object] | str,
    consumer: Callable[[Any], object] | str,
    dtype: DTypeLike | None = None,
    *,
    cpus: Cpus = "auto",
    start_method: StartMethod = "spawn",
    ring_size: int = RING_SIZE,
    memory: Memory | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    checked: bool = False,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> Any:
    """Run a stream between two new processes, and return what the consumer's function returned.

    `ringbell.pipeline(prices, average, dtype=tick)` calls `prices(stream)` in one process, and
    `average(stream)` in another. The streams are those of `produce` and `consume`: of records of
    the `dtype`; without one, of messages, or of objects with a `codec`. When the producer's
    function returns, the stream ends. A function may also be given by its name,
    `"module:function"`, which its process imports.

    Blocks until both functions have returned and both processes have ended. A script does this
    below `if __name__ == "__main__":`, because a new process imports the script. Ctrl-C ends both
    processes: SIGTERM raises SystemExit there, and SIGKILL follows two seconds later. If this
    process ends, however that happens, the kernel kills both. What they log goes where this
    process's logs go. Options:

    - `cpus`: the CPU of the producer and that of the consumer. `"auto"` takes two that share a
      cache, if there are two; None pins neither.
    - `start_method`: as in `launch`.
    - the others are those of `produce` and `consume`. The functions of a `codec` are sent to the
      new processes as the other two are.

    Raises what either function raised, with a note that shows its traceback. If the consumer's
    function raised, the producer is ended. If the producer's raised, the consumer first takes what
    was sent, and then gets PeerLost. Raises PeerLost when one of the processes was killed,
    EndOfStream when the consumer's function returned before it had taken everything; and for what
    goes wrong before the two have met, what `launch`, `produce` and `consume` raise.
    """
    # Raises if they are wrong, before there is a process.
    read = codec_of_messages(codec, dtype)
    Policy(polling, max_poll, max_share, kick, moderation, max_message, read, blocks)
    check_blocks(blocks, dtype)
    return run_pipeline(
        producer,
        consumer,
        cpus=choose_cpus(cpus),
        start_method=start_method,
        watch=None,
        produced={
            "dtype": dtype,
            "ring_size": ring_size,
            "memory": memory,
            "kick": kick,
            "blocks": blocks,
        },
        consumed={"moderation": moderation, "checked": checked, "max_message": max_message},
        both={
            "polling": polling,
            "max_poll": max_poll,
            "max_share": max_share,
            "codec": Parcel("codec", read),
        },
    )


def choose_cpus(cpus: Cpus) -> tuple[int | None, int | None]:
    """Give the CPU of each side, None if it is not pinned."""
    if cpus == "auto":
        cpus = choose_pair()
    if cpus is None:
        return None, None
    if not isinstance(cpus, (tuple, list)) or len(cpus) != 2:
        raise TypeError(f"cpus is a pair of CPUs, 'auto' or None, not {shown(cpus)}")
    return cpus[0], cpus[1]


def run_pipeline(
    producer: Callable[[Any], object] | str,
    consumer: Callable[[Any], object] | str,
    *,
    cpus: tuple[int | None, int | None],
    start_method: StartMethod,
    watch: Watch | None,
    produced: dict[str, Any],
    consumed: dict[str, Any],
    both: dict[str, Any],
) -> Any:  # noqa: ANN401
    """Do what `pipeline` does, and call `watch` with the progress now and then."""
    path = private_path("pipeline")
    sending, taking = Parcel("producer", producer), Parcel("consumer", consumer)
    produced = {**produced, **both, "cpu": cpus[0]}
    consumed = {**consumed, **both, "cpu": cpus[1]}
    pause = None if watch is None else PAUSE
    with (
        Worker("producer", _produce, sending, start_method, path=path, options=produced) as first,
        Worker(
            "consumer", _consume, taking, start_method, path=path, options=consumed, pause=pause
        ) as last,
    ):
        _run(first, last, watch)
    return last.result


def _run(producer: Worker, consumer: Worker, watch: Watch | None) -> None:
    """Wait until both tasks have ended. Raises the failure that is no consequence of another."""
    failed: list[Worker] = []
    running = {producer.reports: producer, consumer.reports: consumer}
    while running:
        for ready in wait(list(running)):
            worker = running[ready]  # type: ignore[index]  # it is one of ours
            kind, content = worker.hear()
            if kind == "progress" and watch:
                watch(content)
            if not worker.finished:
                continue
            del running[worker.reports]
            if worker.failure():
                failed.append(worker)
                # Who has not met the other side would wait for ever, and nobody takes what is sent
                # to a consumer that has failed. But a consumer whose producer has failed takes what
                # was sent; and if that one's failure shows here first, its own report is to come.
                if not worker.ready:
                    (producer if worker is consumer else consumer).stop()
                elif worker is consumer and not _is_consequence(worker):
                    _hear_last_words(producer)
                    producer.stop()
    failed.sort(key=_is_consequence)
    for other in failed[1:]:
        if not _is_consequence(other) and (failure := other.failure()):
            _log.warning("the %s failed as well: %s", other.what, describe_error(failure))
    if failed:
        failed[0].check()


def _hear_last_words(producer: Worker) -> None:
    """Hear the report of a producer that has failed.

    Its stream ends before it reports, so its consumer may have failed and reported meanwhile.
    """
    deadline = deadline_after(_LAST_WORDS)
    while not producer.finished and wait([producer.reports], seconds_left(deadline)):
        producer.hear()


def _is_consequence(worker: Worker) -> bool:
    """Whether a side failed because the other side had."""
    return isinstance(worker.failure(), (PeerLost, EndOfStream)) and not worker.died


def _produce(
    inside: Inside, function: Callable[..., Any], path: Path, options: dict[str, Any]
) -> None:
    """Produce; in the new process."""
    with _no_word_of_waiting():
        stream = produce(path, **_with_codec(**options))
    with stream:
        inside.has_met()
        inside.ready()
        function(stream)


def _consume(
    inside: Inside,
    function: Callable[..., Any],
    path: Path,
    options: dict[str, Any],
    pause: float | None,
) -> Any:  # noqa: ANN401
    """Consume; in the new process."""
    with _no_word_of_waiting():
        stream = consume(path, **_with_codec(**options))
    with stream:
        inside.has_met()
        inside.ready()
        with contextlib.nullcontext() if pause is None else reported(stream, inside.reports, pause):
            return function(stream)


def _with_codec(codec: Parcel | None = None, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    return {**options, "codec": codec.open()} if codec else options


@contextlib.contextmanager
def _no_word_of_waiting() -> Iterator[None]:
    """Do not log whom this side waits for: the user knows no such name."""
    before = _log.level
    _log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _log.setLevel(before)
