# SPDX-License-Identifier: MIT
"""How a launched process ends when its parent has ended, however that ended.

The parent holds the writing end of a pipe, and writes nothing. When the parent ends, the kernel
closes that end. The new process has asked the kernel to send it a signal then (fcntl(2), O_ASYNC
and F_SETSIG). SIGKILL needs neither the GIL nor a thread, so it also ends a process that is busy in
C. PR_SET_PDEATHSIG would do less: it sends the signal when the *thread* that forked has ended, and
the parent of a child of multiprocessing's fork server is that server.
"""

from __future__ import annotations

import fcntl
import os
import signal
from multiprocessing.connection import Connection

from ringbell.channel import forks


class Lifeline:
    """The reading end of the pipe, in the new process."""

    def __init__(self, connection: Connection) -> None:
        """Hold the reading end; processes that this one starts do not get it."""
        self._connection = connection
        os.set_inheritable(connection.fileno(), False)
        forks.watch(self)

    def end_by(self, number: signal.Signals) -> None:
        """Have the kernel send this signal when the parent ends, or send it now if it has ended."""
        descriptor = self._connection.fileno()
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, number)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
        # The kernel tells only of an end that comes after this.
        if self._connection.poll():
            os.kill(os.getpid(), number)

    def leave_to_parent(self) -> None:
        """Close it in a forked child of the new process."""
        self._connection.close()
