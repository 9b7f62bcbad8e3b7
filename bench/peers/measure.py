# SPDX-License-Identifier: MIT
"""Runs the measurements: ours and theirs in turn, round by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby

from peers import jobs
from peers.jobs import Job, Result
from peers.machine_state import MachineState
from peers.pair import Pair, PeerFailed
from peers.registry import Peer
from peers.rows import MEASUREMENTS, OURS, Measurement

# The blocks or exchanges of the first round, which shows how many are enough for a run.
_FIRST = {"idle": 5, "in flight": 4096}
_FIRST_BLOCKS, _FIRST_EXCHANGES = 4, 300


@dataclass
class Findings:
    """What has been measured."""

    rounds: int
    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    """By measurement, module and field: one for each round."""
    states: dict[str, list[float | None]] = field(default_factory=dict)
    """Of the machine, by measurement: one for each round."""
    notes: list[str] = field(default_factory=list)
    runs: int = 0
    spoiled: int = 0
    """Runs in which a message was lost or a payload wrong."""

    def of(self, measurement: str, module: str, what: str) -> list[float] | None:
        return self.values.get((measurement, module, what))

    def median(self, measurement: str, module: str, what: str) -> float | None:
        values = self.of(measurement, module, what)
        return statistics.median(values) if values else None

    def best(self, measurement: str, what: str) -> str | None:
        """Give the peer with the best median in this measurement."""
        medians = {
            module: statistics.median(values)
            for (where, module, field_), values in self.values.items()
            if (where, field_) == (measurement, what) and module != OURS
        }
        pick = max if what == "rate" else min
        return pick(medians, key=medians.__getitem__) if medians else None

    def forget(self, measurement: str, module: str) -> None:
        for key in [key for key in self.values if key[:2] == (measurement, module)]:
            del self.values[key]


class Comparison:
    """Keeps two processes for each library, and the findings."""

    def __init__(
        self, peers: dict[str, Peer], state: MachineState, rounds: int, scale: float
    ) -> None:
        self._peers = peers
        self._state = state
        self._scale = scale
        self.findings = Findings(rounds)

    def run(self, names: list[str], cpus: tuple[int, int], say: Callable[[str], None]) -> Findings:
        with ExitStack() as guard:
            pairs = {module: Pair(module, cpus) for module in self._peers}
            for pair in pairs.values():
                guard.callback(pair.end)
            for _, group in groupby(names, key=lambda name: MEASUREMENTS[name].group or name):
                together = list(group)
                say(", ".join(together))
                self._measure(together, pairs)
        return self.findings

    def _measure(self, names: list[str], pairs: dict[str, Pair]) -> None:
        """Take these measurements, all of them in each round: their figures are compared."""
        counts = {name: self._first_round(name, pairs) for name in names}
        for _ in range(self.findings.rounds):
            for name in names:
                self.findings.states.setdefault(name, []).append(self._state.now())
                self._round(name, pairs, counts[name])

    def _first_round(self, name: str, pairs: dict[str, Pair]) -> dict[str, int]:
        """Find how many messages make a run, for each peer that has a way to do the job."""
        what, counts = MEASUREMENTS[name], {}
        for module, pair in pairs.items():
            if what.job in self._peers[module].jobs:
                first = Job(what.job, self._first(what.job), compare_all=True)
                values = self._try(name, what, pair, first)
                if values is not None:
                    counts[module] = self._enough(what, module, values)
        return counts

    def _round(self, name: str, pairs: dict[str, Pair], counts: dict[str, int]) -> None:
        what, found = MEASUREMENTS[name], {}
        # ringbell runs before and after the peers, because the machine may change meanwhile.
        again = [OURS] if OURS in counts and len(counts) > 1 else []
        for module in [*counts, *again]:
            if module not in counts:
                continue
            values = self._try(name, what, pairs[module], Job(what.job, counts[module]))
            if values is None:
                # From here on its rounds would not match those of the others.
                self.findings.forget(name, module)
                del counts[module]
                found.pop(module, None)
                continue
            found.setdefault(module, []).append(values)
        for module, runs in found.items():
            for key in runs[0]:
                mean = statistics.fmean(values[key] for values in runs)
                self.findings.values.setdefault((name, module, key), []).append(mean)

    def _first(self, job: str) -> int:
        return _FIRST.get(job, _FIRST_BLOCKS if job in jobs.ONE_WAY else _FIRST_EXCHANGES)

    def _enough(self, what: Measurement, module: str, values: dict[str, float]) -> int:
        """Say how many messages make a run that takes as long as it should."""
        seconds = what.seconds * self._scale
        if what.job == "idle":
            return max(5, round(seconds / jobs.IDLE))
        if "p50" in values:
            return min(50_000, max(200, round(seconds / values["p50"] * 1e6)))
        messages = min(seconds * values["rate"], self._peers[module].most)
        if what.job == "in flight":
            return max(2 * jobs.DEPTH, round(messages))
        return max(4, math.ceil(messages / jobs.BLOCK))

    def _try(self, name: str, what: Measurement, pair: Pair, job: Job) -> dict[str, float] | None:
        peer = self._peers[pair.module].name
        try:
            result = pair.run(job, what.size)
        except PeerFailed as error:
            self.findings.notes.append(f"{peer} is left out of {name!r}: {error}")
            return None
        self.findings.runs += 1
        # After a loss every payload is another than the expected one.
        for count, what in (
            (result.get("lost"), "messages lost"),
            (result["wrong"], "wrong payloads"),
        ):
            if count:
                self.findings.spoiled += 1
                self.findings.notes.append(f"{peer} in {name!r}: {count} {what}")
                break
        return _values(job, result)


def _values(job: Job, result: Result) -> dict[str, float]:
    if job.what not in jobs.ONE_WAY:
        return {key: result[key] for key in ("p50", "p99", "rate") if key in result}
    messages = job.count * jobs.BLOCK - result["lost"]
    cpu = result["sending"] + result["receiving"]
    return {
        "rate": messages / (result["ended"] - result["began"]),
        "cpu": cpu * 1e9 / messages,
    }
