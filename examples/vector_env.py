# SPDX-License-Identifier: MIT
"""A vector of simulators, as reinforcement learning uses them, each in a process of its own.

python examples/vector_env.py

A step is one call to each simulator, and all of them work at once. They answer with records, which
are gathered in one array.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

import ringbell

Records = NDArray[np.void]
Polling = Literal["adaptive", "never"]


class Simulator:
    """The handler in one process: it does with an environment what the requests say."""

    def __init__(
        self, make: Callable[[], Any], request: np.dtype[np.void], record: np.dtype[np.void]
    ) -> None:
        self._make = make
        self._request, self._record = np.zeros(1, request), np.zeros(1, record)
        self._env: Any = None
        self._over = True

    def _look_up(self) -> None:
        # To write into a part that was looked up once is quicker than to look it up in each step.
        self._sent, self._action = bytes_of(self._request), self._request["action"]
        self._observation, self._reward = self._record["observation"], self._record["reward"]
        self._terminated, self._truncated = self._record["terminated"], self._record["truncated"]

    def __call__(self, payload: memoryview) -> bytes:
        """Answer with a record."""
        if self._env is None:  # the first request: this is the new process
            self._env = self._make()
            self._look_up()
        self._sent[:] = payload
        if self._over or payload[-1]:  # it is told to reset, or does so in the step after its end
            seed = int(self._request["seed"][0])
            observation, _ = self._env.reset(seed=None if seed < 0 else seed)
            reward, terminated, truncated = 0.0, False, False
        else:
            action = self._action.copy()[0]  # an environment may keep it
            observation, reward, terminated, truncated, _ = self._env.step(action)
        self._over = terminated or truncated
        self._observation[0], self._reward[0] = observation, reward
        self._terminated[0], self._truncated[0] = terminated, truncated
        return self._record.tobytes()


def bytes_of(array: NDArray[Any]) -> memoryview:
    """Give the memory of an array."""
    return array.view("u1").data


class VectorEnv:
    """Simulators of one kind: `make` makes one, which has the `reset` and `step` of gymnasium.

    `observation` and `action` are the dtypes of one of them.
    """

    def __init__(
        self, make: Callable[[], Any], count: int, observation: DTypeLike, action: DTypeLike
    ) -> None:
        told = [("reward", "f8"), ("terminated", "?"), ("truncated", "?")]
        self.records = np.zeros(count, np.dtype([("observation", observation), *told], align=True))
        self._requests = np.zeros(count, [("action", action), ("seed", "i8"), ("reset", "?")])
        self._actions = self._requests["action"]
        self._memory = bytes_of(self.records)
        simulator = Simulator(make, self._requests.dtype, self.records.dtype)
        # To look at memory instead of sleeping takes a CPU. It pays while there are enough of them.
        polling: Polling = "adaptive" if count <= len(os.sched_getaffinity(0)) else "never"
        with contextlib.ExitStack() as processes:
            launched = [ringbell.launch(simulator, polling=polling) for _ in range(count)]
            self._drivers = [processes.enter_context(process) for process in launched]
            self._processes = processes.pop_all()

    def reset(self, seed: int | None = None) -> Records:
        """Begin anew, the first simulator with this seed, the second with the next, and so on."""
        self._requests["reset"] = True
        self._requests["seed"] = -1 if seed is None else seed + np.arange(len(self._drivers))
        try:
            return self._call_each()
        finally:
            self._requests["reset"], self._requests["seed"] = False, -1

    def step(self, actions: ArrayLike) -> Records:
        """Have each do its action; give their records, which the next step overwrites."""
        self._actions[:] = actions
        return self._call_each()

    def _call_each(self) -> Records:
        requests, size = self._requests.tobytes(), self._requests.itemsize
        number = 0
        try:
            for number, driver in enumerate(self._drivers):
                driver.submit(requests[number * size : (number + 1) * size])
            size = self.records.itemsize
            # The last one first: most others have answered when it has, so this sleeps once.
            for number, driver in reversed(list(enumerate(self._drivers))):
                answer = driver.reap()
                while driver.in_flight:  # that one belongs to a step that an exception ended
                    answer = driver.reap()
                self._memory[number * size : (number + 1) * size] = answer.result()
        except ringbell.RingbellError as error:
            error.add_note(f"It was simulator {number}.")
            raise
        return self.records

    def close(self) -> None:
        """End the processes."""
        self._processes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401, PYI036
        self._processes.__exit__(*error)


class Cart:
    """A cart on a rail, which action 0 pushes to the left and action 1 to the right."""

    def __init__(self) -> None:
        self._random = np.random.default_rng()

    def reset(self, *, seed: int | None = None) -> tuple[ArrayLike, dict[str, Any]]:
        """Give its place and its speed."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._place, self._speed = self._random.uniform(-1, 1, 2)
        return (self._place, self._speed), {}

    def step(self, action: int) -> tuple[ArrayLike, float, bool, bool, dict[str, Any]]:
        """Give place and speed, 1.0, and whether it has left the rail."""
        self._speed += 0.1 if action else -0.1
        self._place += 0.1 * self._speed
        return (self._place, self._speed), 1.0, abs(self._place) > 1, False, {}


def main() -> None:
    with VectorEnv(Cart, count=4, observation=("f4", 2), action="i8") as carts:
        records, rewards, ends = carts.reset(seed=1), 0.0, 0
        for _ in range(1000):
            places = records["observation"][:, 0]
            records = carts.step(places < 0)  # push each to the middle
            rewards += records["reward"].sum()
            ends += records["terminated"].sum()
    print(f"{ends} carts left the rail; {rewards:.0f} steps were on it")


# A new process imports this script to find `Cart`, and must not start processes, too.
if __name__ == "__main__":
    main()
