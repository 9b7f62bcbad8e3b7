# SPDX-License-Identifier: MIT
"""How much memory this process can still have: the machine and the control groups bound it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
# Of version 2 and of version 1: the limit, the use, and the part of it that the kernel can free.
_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def available_memory() -> int:
    """Give the bytes of memory that this process can still have; takes some 100 us.

    That is the least of two: what the machine has (`MemAvailable`), and what each control group of
    this process has left below its limit. A file that cannot be read counts as no limit.
    """
    bounds = [_field(Path("/proc/meminfo"), "MemAvailable:", sys.maxsize >> 10) << 10]
    for folder in _groups():
        for limit, used, reclaimable in _FILES:
            most = _number(folder / limit)
            now = _number(folder / used)
            if most is not None and now is not None:
                bounds.append(most - now + _field(folder / "memory.stat", reclaimable, 0))
    return max(min(bounds), 0)


def _groups() -> Iterator[Path]:
    """Give the folders of this process's control groups for memory, and their parents."""
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root = _GROUPS
        elif "memory" in controllers.split(","):
            root = _GROUPS / "memory"
        else:
            continue
        folder = root / os.path.normpath(path).lstrip("/.")
        yield from (folder, *folder.parents[: len(folder.parts) - len(root.parts)])


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _number(file: Path) -> int | None:
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None  # "max" is no limit


def _field(file: Path, name: str, otherwise: int) -> int:
    for line in _text(file).splitlines():
        if line.startswith((f"{name} ", f"{name}\t")):
            return int(line.split()[1])
    return otherwise
