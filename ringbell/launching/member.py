# SPDX-License-Identifier: MIT
"""One worker of a pool, as the pool's thread sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ringbell.calls.driver import Driver
from ringbell.launching.jobs import Job
from ringbell.launching.worker import Worker


@dataclass(eq=False, slots=True)
class Member:
    """One process of the crew."""

    process: Worker
    path: Path
    cpu: int | None
    driver: Driver | None = None
    """None before the two have met, and when the channel is lost."""
    met: bool = False
    flight: dict[int, Job] = field(default_factory=dict)
    """What it has been given and has not answered, by token, the oldest first."""
    limit: int = 1
    """The most that it may have: twice what it answers between two looks, so that a quick worker
    always has the next request there. It sinks slowly, as some looks come soon after the last."""
    answered: bool = False
    """Whether it has answered since it was last given something. Otherwise it may be busy with a
    slow request, and is given no more."""

    @property
    def room(self) -> int:
        """How many more it may be given now."""
        return self.limit - len(self.flight) if self.answered or not self.flight else 0
