# SPDX-License-Identifier: MIT
"""The waits of a meeting, which another thread may end.

Who meets inside of an event loop does so in a thread of its own. That thread may wait for ever for
its partner, and the task that wants the channel may be cancelled meanwhile.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ringbell import _ends


class GivenUp(BaseException):
    """Nobody wants the channel any longer."""


class _Here(threading.local):
    stop: int | None = None


_here = _Here()


@contextlib.contextmanager
def ended_by(stop: int) -> Iterator[None]:
    """Have the waits of this thread raise GivenUp as soon as the descriptor `stop` is readable."""
    _here.stop = stop
    try:
        yield
    finally:
        _here.stop = None


def wait_readable(descriptors: list[int], timeout: float | None) -> list[int]:
    """Wait until one is readable, at most `timeout` seconds; give those that are."""
    stop = _here.stop
    if stop is None:
        return _ends.wait_readable(descriptors, timeout)
    ready = _ends.wait_readable([*descriptors, stop], timeout)
    if stop in ready:
        raise GivenUp
    return ready


def pause(seconds: float) -> None:
    """Wait so long."""
    wait_readable([], seconds)
