# SPDX-License-Identifier: MIT
"""Which CPU a side runs on."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from ringbell.arguments import whole_number

_SYSFS = Path("/sys/devices/system/cpu")


def pin(cpu: int | None) -> None:
    """Pin the calling thread to one CPU; with None do nothing.

    Raises ValueError when the CPU is not among those that this process may use.
    """
    if cpu is None:
        return
    allowed = sorted(os.sched_getaffinity(0))
    complaint = f"cpu is the number of a CPU that this thread may use, one of {allowed}"
    if isinstance(cpu, bool):
        raise TypeError(f"{complaint}, not {cpu}")
    number = whole_number(cpu, 0, 2**31 - 1, complaint)
    try:
        os.sched_setaffinity(0, {number})
    except (OSError, ValueError) as error:
        raise ValueError(f"{complaint}, not {cpu}") from error


def choose_pair(allowed: set[int] | None = None, sysfs: Path = _SYSFS) -> tuple[int, int] | None:
    """Choose two CPUs for the two sides; None when only one CPU may be used.

    Two cores that share a last-level cache are best: a cache line passes between them in the
    shortest time. Two threads of one core share its execution units, so they come last.
    """
    if allowed is None:
        allowed = os.sched_getaffinity(0)
    pairs = list(itertools.combinations(sorted(allowed), 2))
    return min(pairs, key=lambda pair: (_distance(pair, sysfs), pair)) if pairs else None


def _distance(pair: tuple[int, int], sysfs: Path) -> int:
    one, other = pair
    if other in _cpu_list(sysfs / f"cpu{one}/topology/thread_siblings_list"):
        return 2
    return 0 if other in _last_level_sharers(one, sysfs) else 1


def _last_level_sharers(cpu: int, sysfs: Path) -> set[int]:
    levels = {}
    for index in (sysfs / f"cpu{cpu}/cache").glob("index*"):
        try:
            level = int((index / "level").read_text())
        except (OSError, ValueError):
            continue
        levels[level] = _cpu_list(index / "shared_cpu_list")
    return levels[max(levels)] if levels else set()


def _cpu_list(path: Path) -> set[int]:
    """Read the kernel's list format, like `0-3,8`; an unreadable file is an empty list."""
    cpus: set[int] = set()
    try:
        for part in path.read_text().strip().split(","):
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    except (OSError, ValueError):
        return set()
    return cpus
