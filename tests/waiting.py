# SPDX-License-Identifier: MIT
"""What tests of waiters share: signals that interrupt a wait, and how often a waiter slept."""

import signal

from processes import wait_until

NEVER = {"polling": "never"}


class Raised(Exception):  # noqa: N818
    pass


class interrupting:  # noqa: N801
    """Raise `Raised` from a signal handler after a while, as long as the block runs."""

    def __init__(self, handler=None):
        self.handler = handler or self.raises

    @staticmethod
    def raises(_number, _frame):
        raise Raised

    def __enter__(self):
        self.before = signal.signal(signal.SIGALRM, self.handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


class Listener:
    """Anything with a fileno()."""

    def __init__(self, fd):
        self.fd = fd

    def fileno(self):
        return self.fd


def sleeps(waiter):
    return waiter._counts()[0]


def wait_until_asleep(waiter, since=0):
    wait_until(lambda: sleeps(waiter) > since)
