# SPDX-License-Identifier: MIT
"""Work that blocks goes into a thread of its own.

A task that is cancelled does not wait for its thread. What the thread gives is delivered in the
loop all the same, to whoever began the work. Only a meeting is waited for: its thread ends at once,
and has a name to free.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from ringbell.channel.nudge import Nudge
from ringbell.meeting import waits

if TYPE_CHECKING:
    from ringbell.aio.loop import Future, Loop

_T = TypeVar("_T")

_PATIENCE = 1.0
"""Seconds in which the thread of a meeting ends. It may be reserving much memory."""


class _Opened(Protocol):
    def _give_up(self) -> None: ...


_O = TypeVar("_O", bound=_Opened)


def begin(
    loop: Loop,
    work: Callable[[], _T],
    arrived: Callable[[_T], object],
    failed: Callable[[BaseException], object],
) -> None:
    """Begin work in a thread, and call `arrived(result)` or `failed(error)` in the loop."""
    _thread_for(loop, work, arrived, failed).start()


def _thread_for(
    loop: Loop,
    work: Callable[[], _T],
    arrived: Callable[[_T], object],
    failed: Callable[[BaseException], object],
    late: Callable[[_T], object] | None = None,
) -> threading.Thread:
    """Make the thread. When the loop has ended meanwhile, it calls `late(result)` itself."""

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            deliver(failed, error)
        else:
            if not deliver(arrived, result) and late is not None:
                late(result)

    def deliver(callback: Callable[..., object], what: object) -> bool:
        try:
            loop.soon(finish, callback, what)
        except RuntimeError:
            return False
        return True

    def finish(callback: Callable[..., object], what: object) -> None:
        thread.join()  # this was the last that it did
        callback(what)

    thread = threading.Thread(target=run, name="ringbell.aio", daemon=True)
    return thread


async def meet(loop: Loop, opening: Callable[[], _O]) -> _O:
    """Run `opening()`, which waits for another process; give what it has opened.

    When the task is cancelled, or the program ends, the wait in the thread ends and the name is
    free again; what the thread has opened all the same is closed. The loop waits for that, which
    takes a moment, and at most a second.
    """
    future: Future[_O] = loop.future()
    stop = Nudge()

    def work() -> _O:
        with waits.ended_by(stop.fileno()):
            return opening()

    def arrived(opened: _O) -> None:
        if future.done():
            opened._give_up()
        else:
            future.set_result(opened)

    def failed(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    thread = _thread_for(loop, work, arrived, failed, lambda opened: opened._give_up())

    def end() -> None:
        # The thread refers to `stop` as well, and the last reference closes it.
        stop.give()
        if thread.is_alive():  # the end of the program would cut it off, and leave the name
            thread.join(_PATIENCE)

    try:
        atexit.register(end)
        thread.start()
        return await future
    except BaseException:
        if (opened := _late_result(future)) is not None:
            opened._give_up()
        future.cancel()  # a signal handler that raised has cancelled nothing
        raise
    finally:
        atexit.unregister(end)
        end()


def _late_result(future: Future[_T]) -> _T | None:
    """Give the result of a future that came just before its task was cancelled."""
    if not future.done() or future.cancelled():
        return None
    try:
        future.__await__().send(None)  # one that is done does not wait
    except StopIteration as result:
        value: _T = result.value
        return value
    except BaseException:
        return None
    return None
