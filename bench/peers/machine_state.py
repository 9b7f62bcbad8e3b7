# SPDX-License-Identifier: MIT
"""The state of the machine: what a cache line takes to the other CPU and back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_SOURCE = Path(__file__).parent.parent / "c/pingpong.c"


class MachineState:
    """Builds the program that measures it; without a compiler the state is not known."""

    def __init__(self, folder: Path, cpus: tuple[int, int]) -> None:
        self._command: list[str] | None = None
        program = folder / "pingpong"
        compiler = os.environ.get("CC", "cc")
        build = [compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-pthread", "-o", str(program)]
        try:
            subprocess.run(
                [*build, str(_SOURCE)],
                env=os.environ | {"TMPDIR": str(folder)},  # the compiler's files go with it
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return
        self._command = [str(program), *map(str, cpus)]

    def now(self) -> float | None:
        """Measure for 20 ms, in ns."""
        if self._command is None:
            return None
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        return float(done.stdout) if done.returncode == 0 else None
