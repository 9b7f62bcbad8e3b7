# SPDX-License-Identifier: MIT
"""When a side that sleeps wants to be woken."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

_LONGEST = 1.0


@dataclass(frozen=True, slots=True)
class Moderation:
    """Wake me after `entries` entries, or `delay` seconds after the first, whichever is first.

    Fewer wake-ups for more latency, as network cards do it. It counts for waits that have fallen
    asleep; one that polls finds an entry at once. The timer is the kernel's and costs the other
    side one system call a wake-up. A producer that finds the ring full wakes the consumer at once.

    Raises ValueError unless `entries` is from 2 to 2**32 and `delay` above 0 and at most 1 second.
    """

    entries: int = 32
    delay: float = 50e-6

    def __post_init__(self) -> None:
        if not 2 <= operator.index(self.entries) <= 2**32:
            raise ValueError(
                f"entries is from 2 to 2**32, not {self.entries}; for no moderation use None"
            )
        if not (math.isfinite(self.delay) and 0 < self.delay <= _LONGEST):
            raise ValueError(f"delay is above 0 and at most {_LONGEST} seconds, not {self.delay!r}")


def moderation_arguments(moderation: Moderation | None) -> tuple[int, int]:
    """Give what `rb_channel_moderation` takes."""
    if moderation is None:
        return 1, 0
    if not isinstance(moderation, Moderation):
        raise TypeError(f"moderation is a ringbell.Moderation or None, not {moderation!r}")
    return moderation.entries, max(int(moderation.delay * 1e9), 1)
