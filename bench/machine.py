# SPDX-License-Identifier: MIT
"""The machine that a benchmark runs on, to be printed with its figures."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
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


@dataclass(frozen=True)
class CpuTime:
    """Give in seconds what all CPUs have done since the machine started."""

    ours: float
    """This process and the ones that it has waited for."""
    others: float
    stolen: float
    """By a hypervisor, as far as it tells."""
    all: float

    @classmethod
    def now(cls) -> CpuTime:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split()[1:9]]
        user, nice, system, _, _, irq, softirq, steal = (
            tick / os.sysconf("SC_CLK_TCK") for tick in ticks
        )
        ours = sum(os.times()[:4])
        busy = user + nice + system + irq + softirq
        return cls(ours, busy - ours, steal, sum(ticks) / os.sysconf("SC_CLK_TCK"))

    def since(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(
            self.ours - earlier.ours,
            self.others - earlier.others,
            self.stolen - earlier.stolen,
            self.all - earlier.all,
        )


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(field):
            return line.partition(":")[2].strip()
    return ""
