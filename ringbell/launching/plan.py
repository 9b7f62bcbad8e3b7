# SPDX-License-Identifier: MIT
"""The options of a pool, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ringbell.launching.parcel import Parcel
from ringbell.launching.worker import StartMethod


@dataclass(frozen=True, slots=True)
class Plan:
    """How the workers of a pool are started."""

    parcel: Parcel
    cpus: tuple[int | None, ...]
    """The CPU of each worker."""
    start_method: StartMethod
    depth: int
    retry: bool
    restarts: int
    policy: dict[str, Any]
    memory: dict[str, Any]
