# SPDX-License-Identifier: MIT
"""What all producers of a gather send, as one source: what `ringbell consume --many` takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ringbell.command import standard
from ringbell.command.files import consume_into
from ringbell.command.shown import print_sum, stream_bar
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import RingEmpty
from ringbell.streams.opening import gather

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from ringbell.streams.gathered_producer import GatheredProducer


class Many:
    """Messages or records of all producers, one after the other."""

    def __init__(self, name: str, wanted: np.dtype[Any] | None, cpu: int | None) -> None:
        """Take the name; `wanted` is the dtype of the records, or None for what comes first."""
        self.came: int = 0
        """How many producers have come."""
        self.octets: int = 0
        """How many bytes have been written."""
        self.gather: Any = gather(name, wanted, cpu=cpu, arrived=self._count)
        self._first: list[Any] = []

    def _count(self, _producer: GatheredProducer) -> None:
        self.came += 1

    def begin(self, timeout: float | None) -> None:
        """Wait until something has come, so that `dtype` is known.

        Raises TimeoutError when no producer came in time.
        """
        deadline = deadline_after(timeout)
        while not self._first:
            try:
                left = None if self.came else seconds_left(deadline)
                self._first.append(self.gather.take(left)[1])
            except RingEmpty:
                if not self.came:
                    raise TimeoutError(
                        f"nobody produced on {self.gather.path} within the timeout"
                    ) from None

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the records; None for messages."""
        return self.gather.dtype  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        while self._first:
            yield self._first.pop()
        for _, entries in self.gather:
            yield entries


def consume_many(
    name: str,
    wanted: np.dtype[Any] | None,
    target: Path,
    may_be_binary: bool,
    stats: bool,
    cpu: int | None,
    timeout: float | None,
) -> None:
    """Write what all producers send, until a signal."""
    many = Many(name, wanted, cpu)
    with many.gather, stream_bar("from", name, None, standard.is_read(target)) as advance:
        many.begin(timeout)
        begin = time.monotonic()

        def count(octets: int) -> None:
            many.octets += octets
            advance(octets)

        try:
            consume_into(many, target, count, may_be_binary)
        finally:
            if stats:
                print_sum(many.octets, many.came, time.monotonic() - begin)
