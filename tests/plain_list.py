# SPDX-License-Identifier: MIT
"""What both comparisons with a plain list share: that of messages and that of records."""

from __future__ import annotations

import threading
import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# So close below the wrap-around that a few entries cross it.
STARTS = [2**power - below for power in (16, 32, 63, 64) for below in (1, 2, 10, 40)] + [0]
STEPS = 60
TIMEOUTS = st.sampled_from([0, 0.0002])
LONG = 30  # seconds; a wait that takes so long hangs

SETTINGS = settings(
    max_examples=100,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)


class Expired(Exception):  # noqa: N818
    """A wait ended by its timeout, and not earlier."""


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
    """Runs a call that blocks in a thread; after the block, `outcome` is what it returned.

    If the call fails, `failed` ends what the block waits for. If the block fails, `abandoned` ends
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
