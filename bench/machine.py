# SPDX-License-Identifier: MIT
"""What a benchmark ran on, to be printed with its figures."""

from __future__ import annotations

import platform
from pathlib import Path


def describe(cpus: tuple[int, int]) -> str:
    """Name the machine, and the CPUs that the two sides are pinned to."""
    return (
        f"{cpu_model()}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"pinned to CPU {cpus[0]} and {cpus[1]}"
    )


def cpu_model() -> str:
    return _cpuinfo("model name") or platform.machine()


def is_virtual() -> bool:
    return "hypervisor" in _cpuinfo("flags").split()


def steal_ticks() -> int:
    """Read how long a hypervisor has kept CPUs from us, in the kernel's hundredths of a second."""
    words = Path("/proc/stat").read_text().split()
    return int(words[8])


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(field):
            return line.partition(":")[2].strip()
    return ""
