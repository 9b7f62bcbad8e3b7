# SPDX-License-Identifier: MIT
"""Builds and runs the programs of bench/c."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent.parent
SOURCES = [str(path) for path in sorted((ROOT / "csrc").glob("*.c"))]
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Wno-unused-function"]
FLAGS += [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests/c'}"]
_PROGRAMS = {
    "wake": ("wake.c", []),
    "counter": ("counter.c", []),
    "stream": ("stream.c", []),
    "calls": ("calls.c", []),
    "records": ("records.c", []),
    "line-padded": ("line.c", []),
    "line-bare": ("line.c", ["-DRB_LINE=8"]),
}

Results = dict[str, float]
Case = TypeVar("Case")
Result = TypeVar("Result")


class Failed(Exception):  # noqa: N818
    """A program did not build, or ended in a bad way; the message says how."""


@dataclass(frozen=True)
class Bench:
    """Where a claim is measured, and how thoroughly."""

    folder: Path
    """Of the programs, and of what else is to be gone afterwards."""
    figures: Path
    cpus: tuple[int, int]
    quick: bool

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 3

    def build(self, *names: str) -> None:
        """Build those programs, or all of them."""
        compiler = os.environ.get("CC", "cc")
        for name in names or _PROGRAMS:
            source, flags = _PROGRAMS[name]
            target = str(self.folder / name)
            files = [str(ROOT / "bench/c" / source), *SOURCES]
            _run([compiler, *FLAGS, *flags, "-o", target, *files, "-lm"])

    def run(self, program: str, **options: float | str) -> Results:
        """Run one with its options, by default on two CPUs; give what it printed."""
        options = {"driver": self.cpus[0], "device": self.cpus[1], **options}
        words = [str(self.folder / program)]
        for name, value in options.items():
            text = value if isinstance(value, str) else str(round(value))
            words += [f"--{name.replace('_', '-')}", text]
        return json.loads(_run(words))


def _run(command: list[str]) -> str:
    # The programs end themselves before that; their children die with them.
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as error:
        raise Failed(str(error)) from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(command)} did not end") from None
    if done.returncode:
        said = done.stderr.strip() or "nothing was said; -14 is a run that did not end in time"
        raise Failed(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return done.stdout


def in_turn(
    rounds: int, cases: Iterable[Case], measure: Callable[[Case], Result]
) -> dict[Case, list[Result]]:
    """Measure each case once in every round, so that a slow minute is one of all of them."""
    cases = list(cases)
    results: dict[Case, list[Result]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            results[case].append(measure(case))
    return results


def median(results: list[Results], what: str) -> float:
    return statistics.median(result[what] for result in results)
