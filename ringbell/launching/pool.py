# SPDX-License-Identifier: MIT
"""Many workers for one handler."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, overload

from ringbell.arguments import shown, whole_number
from ringbell.channel.closing import Closing
from ringbell.codecs import Codec, codec_from, prepared
from ringbell.deadlines import deadline_after
from ringbell.launching.answers import Answers
from ringbell.launching.crew import Crew
from ringbell.launching.jobs import Job
from ringbell.launching.parcel import Parcel
from ringbell.launching.plan import Plan
from ringbell.launching.promise import Promise
from ringbell.launching.worker import StartMethod
from ringbell.meeting.segment import RING_SIZE, Memory
from ringbell.policy import MAX_POLL, MAX_SHARE, Blocks, Kick, Moderation, Policy, Polling

if TYPE_CHECKING:
    from typing import Literal, Unpack

    import typing_extensions  # which type checkers know

    from ringbell._types import (
        AnyCodec,
        Handler,
        ObjectCodec,
        ObjectHandler,
        Payload,
        PoolOptions,
    )

    _Given = typing_extensions.TypeVar("_Given", default=Payload)
    _Answer = typing_extensions.TypeVar("_Answer", default=bytes)
else:
    _Given, _Answer = TypeVar("_Given"), TypeVar("_Answer")

DEPTH = 128
"""Requests that a worker has at most, answered one after the other."""

RESTARTS = 10


class Pool(Closing, Generic[_Given, _Answer]):
    """Worker processes that answer requests with one handler; a context manager.

    with ringbell.Pool(handler, workers=4) as pool:
        for answer in pool.map(payloads): ...

    Each worker is a device in a process of its own, as `launch` starts it. Any thread may use the
    pool. The end of the block waits until all requests have been answered and the workers have
    ended. If an exception leaves the block (Ctrl-C is one), the workers are ended at once.

    A payload is sent a little later, by a thread of the pool: do not change it before its answer
    is there. If a worker dies, another one is started.
    """

    __slots__ = ("_codec", "_crew", "_window")

    @overload
    def __init__(
        self: Pool[Payload, bytes],
        handler: Handler | str,
        workers: int | None = None,
        *,
        codec: Literal["bytes"] = ...,
        **options: Unpack[PoolOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Pool[Any, Any],
        handler: ObjectHandler | str,
        workers: int | None = None,
        *,
        codec: ObjectCodec,
        **options: Unpack[PoolOptions],
    ) -> None: ...
    def __init__(
        self,
        handler: ObjectHandler | str,
        workers: int | None = None,
        *,
        cpus: Iterable[int] | None = None,
        retry: bool = False,
        restarts: int = RESTARTS,
        depth: int = DEPTH,
        start_method: StartMethod = "spawn",
        timeout: float | None = None,
        ring_size: int = RING_SIZE,
        memory: Memory | None = None,
        polling: Polling = "adaptive",
        max_poll: float = MAX_POLL,
        max_share: float = MAX_SHARE,
        kick: Kick = "asleep",
        moderation: Moderation | None = None,
        max_message: int | None = None,
        codec: AnyCodec = "bytes",
        blocks: Blocks | None = None,
    ) -> None:
        """Start the workers; blocks until all of them are there.

        `handler` is that of `launch`; a script makes a pool below `if __name__ == "__main__":`.
        Options:

        - `workers`: how many; None is one for each CPU that this process may use.
        - `cpus`: pins the first worker to the first of these CPUs, the second to the second, and so
          on, again from the first when there are more workers. None pins none.
        - `retry`: what happens to the requests of a worker that dies. False fails them with
          PeerLost, as nobody knows whether the handler has been called for them. True gives them
          to another worker: the handler may then be called twice for one request. A request that
          kills every worker uses up the restarts.
        - `restarts`: how many workers may be started in all in place of those that died.
        - `depth`: how many requests a worker has at most. It gets as many only while it is quick.
          1 is best for requests that take very different times.
        - the others are those of `launch`.

        Raises what `launch` raises.
        """
        parcel = Parcel("handler", handler)
        if workers is None:
            workers = len(os.sched_getaffinity(0))
        workers = whole_number(workers, 1, 10_000, "workers is how many processes, at least 1")
        depth = whole_number(depth, 1, 2**31, "depth is how many requests, at least 1")
        complaint = "restarts is how many workers may be started again, at least 0"
        restarts = whole_number(restarts, 0, 2**63 - 1, complaint)
        deadline_after(timeout)
        policy: dict[str, Any] = {
            "polling": polling,
            "max_poll": max_poll,
            "max_share": max_share,
            "kick": kick,
            "moderation": moderation,
            "max_message": max_message,
            "codec": codec_from(codec),
            "blocks": blocks,
        }
        Policy(**policy)
        plan = Plan(
            parcel,
            _cpu_of_each(cpus, workers),
            start_method,
            depth,
            bool(retry),
            restarts,
            policy,
            {"ring_size": ring_size, "memory": memory},
        )
        self._codec: Codec | None = policy["codec"]
        self._window = 2 * depth * workers
        self._crew = Crew(plan, timeout)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that answer now."""
        return self._crew.pids

    def submit(self, payload: _Given) -> Future[_Answer]:
        """Have one payload answered; returns at once, with a future.

        The result of the future is the answer. Its exception is what `map` raises in the place of
        an answer. A future can be cancelled until its request is sent. Its callbacks run in the
        thread of the pool: they must not block.

        Raises ChannelClosed after `close`, PeerLost when no worker is left, and what the codec
        raises. The thread of the pool decodes the answer.
        """
        self._check()
        promise = Promise()
        self._crew.put(Job(prepared(self._codec, payload), promise))
        return promise.future

    def map(self, payloads: Iterable[_Given], timeout: float | None = None) -> Iterator[_Answer]:
        """Have each payload answered by one of the workers; gives the answers in the same order.

        Takes at most 2 * `depth` * `workers` payloads more than it has given answers, so the
        iterable may be endless. Nothing is sent before the first step. A step blocks until its
        answer is there, at most `timeout` seconds.

        In the place of an answer, a step raises RequestFailed when the handler raised, PeerLost
        when the worker died, TypeError when the payload is no buffer, and what a codec raises for
        this payload or this answer. It raises RingEmpty when the
        time is over. After these, the next step gives the next answer; a `for` loop ends with the
        first exception. What the iterable raises, and any other exception, ends the iterator, and
        what is in flight is dropped when it arrives. The last step raises ChannelClosed when the
        pool was closed, PeerLost when no worker is left.
        """
        self._check()
        return Answers(self._crew, payloads, self._window, timeout, self._codec, ordered=True)

    def imap_unordered(
        self, payloads: Iterable[_Given], timeout: float | None = None
    ) -> Iterator[_Answer]:
        """Like `map`, but gives the answers as they come, in any order."""
        self._check()
        return Answers(self._crew, payloads, self._window, timeout, self._codec, ordered=False)

    def close(self) -> None:
        """Wait until all requests have been answered and the workers have ended.

        Any thread, signal handler and callback may close. Further requests get ChannelClosed.
        """
        self._crew.close()

    def _give_up(self) -> None:
        self._crew.stop()

    def _check(self) -> None:
        if refusal := self._crew.refusal():
            raise refusal

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Pool cannot be copied or pickled: its workers are this process's; make another one"
        )

    def __repr__(self) -> str:
        return f"<ringbell.Pool, {len(self.pids)} workers>"


def _cpu_of_each(cpus: Iterable[int] | None, workers: int) -> tuple[int | None, ...]:
    if cpus is None:
        return (None,) * workers
    try:
        numbers = tuple(cpus)
    except TypeError:
        numbers = ()
    if not numbers:
        raise TypeError(f"cpus names one CPU or several, such as [0, 1], not {shown(cpus)}")
    return tuple(numbers[i % len(numbers)] for i in range(workers))
