# SPDX-License-Identifier: MIT
"""A descriptor that becomes readable when a signal arrives."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from functools import partial


class SignalPipe:
    """Lets the main thread sleep in C without missing a signal that came just before.

    A signal between the interpreter's last look and the system call would go unnoticed until the
    next one, and blocking signals around the call does not help where another thread may catch
    them. So for the time of the sleep Python's wake-up descriptor (`signal.set_wakeup_fd`) is the
    write end of a pipe whose read end is slept on with the rest. What an event loop had set there
    is put back, and told of what came meanwhile.
    """

    __slots__ = ("_install", "_reader", "_writer")

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._install = partial(signal.set_wakeup_fd, warn_on_full_buffer=False)

    def sleep(self, sleep: Callable[[int], int]) -> int:
        """Call `sleep(descriptor)`; return what it returned. Only for the main thread."""
        previous: list[int] = []
        try:
            # One call that both sets and remembers: a signal handler may raise after any call, and
            # then the descriptor that was there before must already be known.
            previous.extend(map(self._install, (self._writer,)))
            return sleep(self._reader)
        finally:
            if previous:
                signal.set_wakeup_fd(previous[0])
                self._pass_on(previous[0])

    def _pass_on(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            signals = os.read(self._reader, 4096)
            if descriptor != -1:
                os.write(descriptor, signals)

    def close(self) -> None:
        """Close both ends; closing twice does nothing."""
        for name in ("_reader", "_writer"):
            descriptor = getattr(self, name)
            setattr(self, name, -1)
            if descriptor != -1:
                os.close(descriptor)

    def forget_in_child(self) -> None:
        """After a fork in another thread while this one was slept on: not to be written to."""
        previous = signal.set_wakeup_fd(-1)
        if previous not in (-1, self._writer):
            signal.set_wakeup_fd(previous)


def in_main_thread() -> bool:
    """Whether signal handlers run in this thread."""
    return threading.get_ident() == threading.main_thread().ident
