# SPDX-License-Identifier: MIT
"""The answers to many requests of a pool, as an iterator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn, Self

from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import RingEmpty
from ringbell.launching.jobs import Job

if TYPE_CHECKING:
    from ringbell.codecs import Codec
    from ringbell.launching.crew import Crew


class Answers(Iterator[Any]):
    """Gives the answers to many requests; made by `Pool.map` and `Pool.imap_unordered`.

    A step that raises RequestFailed, PeerLost or RingEmpty does not end it: the next step gives
    the next answer. After any other exception it is at its end. For one thread at a time.
    """

    __slots__ = ("_broken", "_jobs")

    def __init__(
        self,
        crew: Crew,
        payloads: Iterable[Any],
        window: int,
        timeout: float | None,
        codec: Codec | None,
        *,
        ordered: bool,
    ) -> None:
        """Prepare to have `payloads` answered; at most `window` of them are out at any time."""
        deadline_after(timeout)  # raises if it is wrong
        source = iter(payloads)
        # Whether an exception, such as Ctrl-C, left a step, which may have lost an answer.
        self._broken: bool = False
        order = _InOrder() if ordered else _AsTheyCome()
        self._jobs: Generator[Job | None] = _jobs(order, crew, source, window, timeout, codec)

    def __next__(self) -> Any:  # noqa: ANN401
        if self._broken:
            self._jobs.close()
        self._broken = True
        job = next(self._jobs)
        if job is None:
            error: Exception = RingEmpty("no answer came within the timeout; take the next again")
        elif job.error:
            error = job.error
        else:
            assert job.completion is not None, "it has been answered"
            try:
                answer = job.completion.payload
                # No call from here on, so no signal handler can raise before the caller has this.
                self._broken = False
                return answer
            except Exception as of_codec:
                error = of_codec
        self._broken = False
        raise error

    def close(self) -> None:
        """Send nothing more, and drop the answers that are still to come."""
        self._jobs.close()

    def __iter__(self) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("the answers of a Pool cannot be copied or pickled: its workers give them")


class _AsTheyCome:
    """What is out, taken back in any order."""

    def __init__(self) -> None:
        self._done: SimpleQueue[Job] = SimpleQueue()
        self.wanted = True
        self.count = 0
        # Called for each request; bound once.
        self.take: Callable[[Job], None] = self._done.put

    def drop(self) -> None:
        self.wanted = False

    def add(self, _job: Job) -> None:
        self.count += 1

    def next(self, timeout: float | None) -> Job:
        """Wait for the next one; raises Empty."""
        job = self._done.get(timeout=timeout)
        self.count -= 1
        return job


class _InOrder(_AsTheyCome):
    """What is out, taken back in the order in which it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self._out: deque[Job] = deque()

    def add(self, job: Job) -> None:
        self._out.append(job)
        self.count += 1

    def next(self, timeout: float | None) -> Job:
        first = self._out[0]
        if not first.taken:
            deadline = deadline_after(timeout)
            while True:
                came = self._done.get(timeout=seconds_left(deadline))
                came.taken = True
                if came is first:
                    break
        self._out.popleft()
        self.count -= 1
        return first


def _jobs(
    order: _AsTheyCome,
    crew: Crew,
    source: Iterator[Any] | None,
    window: int,
    timeout: float | None,
    codec: Codec | None,
) -> Generator[Job | None]:
    """Give the requests that have been answered or have failed; None when the time was over.

    A generator, because it has what this needs: it ends with the first exception that it lets out,
    only one thread at a time may be in it, and it notices when it is dropped.
    """
    refused: Exception | None = None
    try:
        while True:
            # By halves, so that the two threads take turns seldom.
            if source is not None and order.count <= window // 2:
                if refused := crew.refusal():
                    source = None
                while source is not None and order.count < window:
                    try:
                        payload = next(source)
                    except StopIteration:
                        source = None
                        break
                    job = Job(payload, order)
                    order.add(job)
                    if codec:
                        try:
                            job.payload = codec.prepared(payload)
                        except Exception as error:
                            job.fail(error)
                            continue
                    crew.put(job)
            if not order.count:
                if refused:
                    raise refused
                return
            crew.check_process()
            try:
                job = order.next(timeout)
            except Empty:
                yield None
                continue
            yield job
    finally:
        order.drop()
