# SPDX-License-Identifier: MIT
"""How far a stream between two launched processes has come."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ringbell._ffi import lib
from ringbell.launching.reports import Reports
from ringbell.stats import Stats
from ringbell.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class Progress:
    """What the consumer's process sees at one moment."""

    seconds: float
    """Since the two sides met."""
    stats: Stats
    slots: int
    """Of the whole ring."""

    @property
    def fill(self) -> float:
        """The share of the ring that is in use, from 0 to 1."""
        return (self.stats.dwi - self.stats.dri) / self.slots


@contextlib.contextmanager
def reported(stream: Stream, reports: Reports, pause: float) -> Iterator[None]:
    """Report the progress of a consumed stream at once, every `pause` seconds, and at the end."""
    begin, over = time.monotonic(), threading.Event()
    slots = int(lib.rb_channel_memory(stream._channel.handle).their_slots)

    def report() -> None:
        reports.send("progress", Progress(time.monotonic() - begin, stream.stats(), slots))

    def run() -> None:
        while not over.wait(pause):
            report()

    report()
    thread = threading.Thread(target=run, name="ringbell progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        report()
