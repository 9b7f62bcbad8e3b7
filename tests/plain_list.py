# SPDX-License-Identifier: MIT
"""What the comparisons of producers and consumers with a plain list have in common."""

from __future__ import annotations

import threading
import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# So little below that a few entries cross it.
STARTS = [2**power - below for power in (16, 32, 63, 64) for below in (1, 2, 10, 40)] + [0]
STEPS = 60
TIMEOUTS = st.sampled_from([0, 0.0002])
LONG = 30  # seconds; whoever waits so long hangs

SETTINGS = settings(
    max_examples=100,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


class Expired(Exception):  # noqa: N818
    """A wait ended with its timeout, and not before it."""


class expiry:  # noqa: N801
    """Turn RingFull and RingEmpty into Expired, if the time is over."""

    def __init__(self, timeout):
        self.timeout = timeout

    def __enter__(self):
        self.begin = time.monotonic()

    def __exit__(self, kind, error, traceback):
        if kind and issubclass(kind, TimeoutError):
            assert time.monotonic() - self.begin >= self.timeout
            raise Expired from error


class InThread:
    """Do in a thread what blocks; `outcome` is what came of it, once the block has been left.

    When it fails, `failed` ends what the block waits for; when the block fails, `abandoned` ends
    what the thread waits for.
    """

    def __init__(self, call, *, failed, abandoned):
        self.call = call
        self.failed, self.abandoned = failed, abandoned
        self.outcome = self.error = None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            self.outcome = self.call()
        except BaseException as error:
            self.error = error
            self.failed()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, error, traceback):
        try:
            if not kind:
                self.thread.join()
        finally:
            if self.thread.is_alive():
                self.abandoned()
                self.thread.join()
            elif self.error:
                raise self.error
