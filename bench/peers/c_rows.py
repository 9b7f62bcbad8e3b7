# SPDX-License-Identifier: MIT
"""The rows in C: our rings and boost's queue, one element at a time, under one harness."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from pathlib import Path

from claims.programs import FLAGS, ROOT, SOURCES

from peers.machine_state import MachineState
from peers.report import Line

_C = ROOT / "bench/c"
_MESSAGES, _RECORDS, _BOOST = 0, 1, 2
_SECONDS = 0.1
# Title, our ring, the size of our entry, that of boost's, and the target ratio of times.
_ROWS = [
    ("C, one by one: messages of 48 bytes, ns", _MESSAGES, 48, 64, 0.75),
    ("C, one by one: records of 64 bytes, ns", _RECORDS, 64, 64, 0.9),
    ("C, one by one: records of 8 bytes, ns", _RECORDS, 8, 8, 1.5),
]


class CRows:
    """Builds the program; without a compiler or boost its rows are left out."""

    def __init__(self, folder: Path, cpus: tuple[int, int], state: MachineState) -> None:
        self.notes: list[str] = []
        self.states: dict[str, list[float | None]] = {}
        self._folder, self._cpus, self._state = folder, cpus, state

    def run(self, rounds: int, scale: float) -> list[Line]:
        program = self._build()
        if program is None:
            return []
        cases = dict.fromkeys(
            case for _, ring, size, boosts, _ in _ROWS for case in ((ring, size), (_BOOST, boosts))
        )
        times: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
        states = self.states["in C"] = []
        for _ in range(rounds):
            states.append(self._state.now())
            for case in cases:
                times[case].append(self._time(program, *case, _SECONDS * scale))
        return [
            _line(what, times[ring, size], times[_BOOST, boosts], target)
            for what, ring, size, boosts, target in _ROWS
        ]

    def _build(self) -> Path | None:
        cc, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
        boost, program = self._folder / "boost.o", self._folder / "one_by_one"
        objects = []
        commands = [[cxx, "-std=c++17", "-O2", "-c", str(_C / "boost.cpp"), "-o", str(boost)]]
        for source in [str(_C / "one_by_one.c"), *SOURCES]:
            objects.append(str(self._folder / f"{Path(source).stem}.o"))
            commands.append([cc, *FLAGS, "-c", source, "-o", objects[-1]])
        commands.append([cxx, "-o", str(program), str(boost), *objects, "-lm"])
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    env=os.environ | {"TMPDIR": str(self._folder)},
                    capture_output=True,
                    text=True,
                    check=False,
                )
            except FileNotFoundError as error:
                self.notes.append(f"the rows in C are left out: {error}")
                return None
            if done.returncode:
                self.notes.append(_why_not_built(done.stderr))
                return None
        return program

    def _time(self, program: Path, ring: int, size: int, seconds: float) -> float:
        words = {
            "driver": self._cpus[0],
            "device": self._cpus[1],
            "ring": ring,
            "size": size,
            "time": round(seconds * 1e9),
        }
        command = [str(program)]
        for name, value in words.items():
            command += [f"--{name}", str(value)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)["ns"]


def _why_not_built(said: str) -> str:
    if "boost/" in said:
        return (
            "the rows in C are left out: boost is missing; on Debian: apt-get install libboost-dev"
        )
    error = next((line for line in said.splitlines() if "error" in line), said.strip())
    return f"the rows in C are left out: {error}"


def _line(what: str, ours: list[float], theirs: list[float], target: float) -> Line:
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    return Line(
        what,
        statistics.median(ours),
        "boost",
        statistics.median(theirs),
        ratio,
        min(ratios),
        max(ratios),
        f"<= {target:g}",
        ratio <= target,
    )
