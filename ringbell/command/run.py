# SPDX-License-Identifier: MIT
"""`ringbell run`: a stream between two new processes, and what is shown of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringbell.calls.failures import describe_error
from ringbell.command.shown import print_note
from ringbell.launching.pipeline import Cpus, choose_cpus, run_pipeline
from ringbell.launching.progress import Progress

if TYPE_CHECKING:
    import numpy as np


class Shown:
    """What is shown of a stream while it runs and at its end."""

    def __init__(self, entries: str, show: Callable[[str], object]) -> None:
        """Give each new line to `show`; `entries` says what the stream carries."""
        self._entries = entries
        self._show = show
        self.last: Progress | None = None
        """None until the two sides have met."""

    def take(self, now: Progress) -> None:
        """Show the rate since the last report, the fill, and the kicks of both sides."""
        before, self.last = self.last, now
        if before is None or now.seconds <= before.seconds:
            return
        seconds = now.seconds - before.seconds
        entries, size = (
            (getattr(_consumed(now), what) - getattr(_consumed(before), what)) / seconds
            for what in ("entries", "bytes")
        )
        self._show(
            f"{entries:,.0f} {self._entries}/s, {size / 1e6:,.1f} MB/s, ring {now.fill:.0%} full, "
            f"{sum(_kicks(now)):,} kicks"
        )

    def figures(self) -> dict[str, float]:
        """Give the figures of the whole stream."""
        assert self.last is not None, "the consumer reports before its function is called"
        consumed, seconds = _consumed(self.last), max(self.last.seconds, 1e-9)
        to_consumer, to_producer = _kicks(self.last)
        return {
            "seconds": self.last.seconds,
            self._entries: consumed.entries,
            "bytes": consumed.bytes,
            f"{self._entries}_per_second": consumed.entries / seconds,
            "megabytes_per_second": consumed.bytes / 1e6 / seconds,
            "kicks_to_consumer": to_consumer,
            "kicks_to_producer": to_producer,
        }

    def summary(self) -> str:
        """Give the figures as a line."""
        seconds, entries, size, rate, speed, *kicks = self.figures().values()
        return (
            f"{entries:,} {self._entries}, {size:,} bytes in {seconds:,.3f} s: {rate:,.0f} "
            f"{self._entries}/s, {speed:,.1f} MB/s; {kicks[0]:,} kicks to the consumer, "
            f"{kicks[1]:,} to the producer"
        )

    def as_json(
        self,
        producer: str,
        consumer: str,
        *,
        cpus: Cpus,
        ring_size: int,
        dtype: np.dtype[Any] | None,
    ) -> dict[str, object]:
        """Give all figures, and what was run."""
        assert self.last is not None, "as above"
        return {
            "producer": producer,
            "consumer": consumer,
            "dtype": None if dtype is None else str(dtype),
            "cpus": choose_cpus(cpus),
            "ring_size": ring_size,
            **self.figures(),
            "stats": dataclasses.asdict(self.last.stats),
        }


def _consumed(progress: Progress) -> Any:  # noqa: ANN401  (ConsumerCounters)
    return progress.stats.device.consumer


def _kicks(progress: Progress) -> tuple[int, int]:
    """Give the kicks to the consumer and those to the producer."""
    stats = progress.stats
    return stats.driver.producer.kicks_sent, stats.device.consumer.kicks_sent


def run_shown(
    producer: str,
    consumer: str,
    shown: Shown,
    *,
    cpus: Cpus,
    ring_size: int,
    dtype: np.dtype[Any] | None,
) -> str | None:
    """Run the stream. If a function raises, print its traceback, and give the error as a text."""
    try:
        run_pipeline(
            producer,
            consumer,
            cpus=choose_cpus(cpus),
            start_method="spawn",
            watch=shown.take,
            produced={"dtype": dtype, "ring_size": ring_size},
            consumed={},
            both={},
        )
    except Exception as error:  # whatever the function raises
        notes = getattr(error, "__notes__", [])
        if shown.last is None or not notes:  # they have not met, or one was killed
            raise
        for note in notes:
            print_note(note.strip())
        return describe_error(error)
    return None
