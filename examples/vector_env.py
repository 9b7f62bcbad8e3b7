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
        self._make, self._request, self._action = make, request, request["action"]
        self._record = np.zeros(1, record)
        self._env: Any = None
        self._over = True

    def __call__(self, payload: memoryview) -> bytes:
        """Answer with a record."""
        if self._env is None:  # the first request: this is the new process
            self._env = self._make()
        # The payload is lent until this returns. An environment may keep its action, so copy.
        sent = bytes(payload)
        if self._over or sent[-1]:  # it is told to reset, or does so in the step after its end
            seed = int(np.frombuffer(sent, self._request)["seed"][0])
            observation, _ = self._env.reset(seed=None if seed < 0 else seed)
            reward, terminated, truncated = 0.0, False, False
        else:
            action = np.frombuffer(sent, self._action, count=1)[0]
            observation, reward, terminated, truncated, _ = self._env.step(action)
        self._over = terminated or truncated
        self._record[0] = observation, reward, terminated, truncated
        return self._record.tobytes()


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
        return self._call_each()

    def step(self, actions: ArrayLike) -> Records:
        """Have each do its action; give their records, which the next step overwrites."""
        self._requests["reset"], self._requests["seed"] = False, -1
        self._requests["action"] = actions
        return self._call_each()

    def _call_each(self) -> Records:
        requests, size = self._requests.tobytes(), self._requests.itemsize
        number, tokens, answers = 0, [], []
        try:
            for number, driver in enumerate(self._drivers):
                tokens.append(driver.submit(requests[number * size : (number + 1) * size]))
            for number, driver in enumerate(self._drivers):
                while (completion := driver.reap()).token != tokens[number]:
                    pass  # it belongs to a step that an exception ended
                answers.append(completion.result())
        except ringbell.RingbellError as error:
            error.add_note(f"It was simulator {number}.")
            raise
        self.records[:] = np.frombuffer(b"".join(answers), self.records.dtype)
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
