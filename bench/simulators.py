# SPDX-License-Identifier: MIT
"""Steps of a vector of environments, against `AsyncVectorEnv` of gymnasium in the same run.

    python bench/simulators.py [--rounds 5] [--json]

Ours is examples/vector_env.py. Each environment has a process of its own, and does nothing: what is
measured is what a step costs apart from them. An observation has 16 float32. gymnasium's lie in
shared memory (`shared_memory=True`) and are not copied for the caller (`copy=False`), and nor are
ours. No process is pinned. The two go in turn, and a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import cpu_model
from peers import registry
from table import Row, compare, show

sys.path.append(str(Path(__file__).parent.parent / "examples"))
registry.add_to_path("gymnasium")

from vector_env import VectorEnv  # noqa: E402

COUNTS = (2, 8)
SIZE = 16
SEED = 100
SECONDS = 0.5
BATCH = 20  # steps between two looks at the clock
TARGET = 3.0


class Idle:
    """Shows the seed that it was reset with."""

    def __init__(self) -> None:
        self.observation = np.zeros(SIZE, "f4")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.observation[:] = seed
        return self.observation, {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation, 1.0, False, False, {}


def for_gymnasium() -> Any:
    import gymnasium

    class IdleEnv(Idle, gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (SIZE,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

    return IdleEnv()


class Ours:
    """A vector of ours."""

    def __init__(self, count: int) -> None:
        self._vector = VectorEnv(Idle, count, observation=("f4", SIZE), action="i8")
        self._vector.reset(SEED)
        self.step, self.close = self._vector.step, self._vector.close

    def last(self) -> tuple[np.ndarray, np.ndarray]:
        return self._vector.records["observation"], self._vector.records["reward"]


class Theirs:
    """A vector of gymnasium."""

    def __init__(self, count: int) -> None:
        from gymnasium.vector import AsyncVectorEnv

        self._vector = AsyncVectorEnv(
            [for_gymnasium] * count, shared_memory=True, copy=False, context="spawn"
        )
        self._vector.reset(seed=SEED)
        self.step, self.close = self._vector.step, self._vector.close

    def last(self) -> tuple[np.ndarray, np.ndarray]:
        return self._vector.step(np.zeros(self._vector.num_envs, "i8"))[:2]


def rate(vector: Ours | Theirs, count: int) -> float:
    """Give the steps a second of the whole vector."""
    step: Callable[[Any], Any] = vector.step
    actions = np.zeros(count, "i8")
    steps, began, now = 0, time.perf_counter(), 0.0
    while now - began < SECONDS:
        for _ in range(BATCH):
            step(actions)
        steps += BATCH
        now = time.perf_counter()
    observations, rewards = vector.last()
    expected = np.arange(SEED, SEED + count)[:, None]
    if not ((observations == expected).all() and (rewards == 1.0).all()):
        raise SystemExit(f"{type(vector).__name__}: a step has given {observations}, {rewards}")
    return steps / (now - began)


def measure(count: int, rounds: int) -> Row:
    what = f"steps a second, {count} environments"
    ours = Ours(count)
    try:
        if registry.why_not_installed("gymnasium"):
            return Row(what, sorted(rate(ours, count) for _ in range(rounds))[rounds // 2])
        theirs = Theirs(count)
        try:
            pairs = [(rate(ours, count), rate(theirs, count)) for _ in range(rounds + 1)]
        finally:
            theirs.close()
    finally:
        ours.close()
    return compare(what, "gymnasium", pairs[1:], TARGET)  # the first round warms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if why := registry.why_not_installed("gymnasium"):
        print(why, file=sys.stderr)
    rows = [measure(count, options.rounds) for count in COUNTS]
    machine = f"{cpu_model()}, {len(os.sched_getaffinity(0))} CPUs, not pinned"
    return show(rows, machine, options.json)


if __name__ == "__main__":
    sys.exit(main())
