# SPDX-License-Identifier: MIT
"""Environments that the tests of examples/vector_env.py have made in new processes."""

import os
import signal

import numpy as np


class Scripted:
    """An environment that does what its action says, and counts its steps."""

    WELL, RAISE, PID, DIE = range(4)

    def reset(self, *, seed=None):
        self.steps = 0
        return [0, -1 if seed is None else seed], {}

    def step(self, action):
        self.steps += 1
        if action == self.RAISE:
            raise ValueError("the wheel came off")
        if action == self.DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        observation = [self.steps, os.getpid() if action == self.PID else action]
        return observation, 0.5, False, False, {}


def cannot_be_made():
    raise OSError("there is no such simulator")


class Keeper:
    """An environment that keeps its actions, which are arrays, and shows the sum of them."""

    def reset(self, *, seed=None):
        self.kept = []
        return 0.0, {}

    def step(self, action):
        self.kept.append(action)
        return float(np.sum(self.kept)), 0.0, False, False, {}
