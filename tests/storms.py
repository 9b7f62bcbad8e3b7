# SPDX-License-Identifier: MIT
"""Signals whose handler raises anywhere in the main thread, as Ctrl-C does, again and again."""

from __future__ import annotations

import gc
import random
import signal
from contextlib import contextmanager
from typing import Self

INTERRUPTS = 400  # for each loop and each kind of stream


@contextmanager
def handles_alarms(handler):
    """Use SIGALRM in the block. The test's own timeout uses it too, and gets it back afterwards."""
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(100):
            pass  # Python handles the last alarm here, at one of these jumps
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


class Alarm(BaseException):
    """What the handler raises."""


class Alarms:
    """Sends SIGALRMs at random moments; the handler raises `Alarm` wherever the main thread is.

    with Alarms() as alarms:
        alarms.interrupt(step, 1000)
    """

    def __init__(self, least: float = 2e-6, most: float = 60e-6) -> None:
        self.least, self.most = least, most
        self.raised = 0
        self._armed = False
        self._random = random.Random(1)

    def _handler(self, *_: object) -> None:
        # It raises once each time it is armed, so never in the code that catches the exception.
        if self._armed:
            self._armed = False
            self.raised += 1
            raise Alarm

    def __enter__(self) -> Self:
        # Python drops what a handler raises in a callback of gc. Then the loop would never end.
        self._callbacks = gc.callbacks[:]
        gc.callbacks.clear()
        self._guard = handles_alarms(self._handler)
        self._guard.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.__exit__(None, None, None)
        gc.callbacks[:] = self._callbacks

    def interrupt(self, run, times: int) -> None:
        """Call `run`, which goes on for ever, until so many alarms have ended it."""
        wanted = self.raised + times
        while self.raised < wanted:
            after = self._random.uniform(self.least, self.most)
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, after)
                run()
            except Alarm:
                pass
