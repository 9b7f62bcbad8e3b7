# SPDX-License-Identifier: MIT
"""What a launched process does before and after its task."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from ringbell.launching import logs
from ringbell.launching.lifeline import Lifeline
from ringbell.launching.parcel import Parcel
from ringbell.launching.reports import Reports

Task = Callable[..., Any]
"""What the process does; called with an `Inside`, with the user's function, and with options."""


class Stopped(SystemExit):
    """SIGTERM has come. It is raised, so that `with` and `finally` of the user's code run."""


class Inside:
    """A launched process, as its task sees it."""

    def __init__(self, life: Connection, reports: Connection) -> None:
        """Take the two pipes to the parent."""
        self.reports: Reports = Reports(reports)
        self._life = Lifeline(life)
        self._life.end_by(signal.SIGTERM)

    def ready(self) -> None:
        """Report that the work begins."""
        self.reports.send("ready")

    def has_met(self) -> None:
        """Have the end of the parent end this process with SIGKILL, whatever it is doing.

        Until the two sides have met it is SIGTERM, so that this process frees its name.
        """
        self._life.end_by(signal.SIGKILL)


def main(
    task: Task,
    parcel: Parcel,
    options: dict[str, Any],
    life: Connection,
    reports: Connection,
    log: tuple[logs.Levels, int] | None,
) -> None:
    """Do the task with the function in the parcel, and report how it ended."""
    _take_signals()
    inside = Inside(life, reports)
    if log:
        logs.forward(*log, lambda record: inside.reports.send("log", record))
    try:
        inside.reports.send_result(task(inside, parcel.open(), **options))
    except Stopped:
        raise
    except BaseException as error:
        inside.reports.send_error(error)
        sys.exit(1)
    finally:
        # What is left to do is the user's `atexit`, or to wait for his threads.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _take_signals() -> None:
    """Leave Ctrl-C to the parent, which ends this process; and let SIGTERM raise.

    A handler that does nothing, where SIG_IGN would be passed on to programs that this one runs.
    """
    signal.set_wakeup_fd(-1)  # after a fork it is the parent's event loop
    signal.signal(signal.SIGINT, _do_nothing)
    signal.signal(signal.SIGTERM, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])


def _do_nothing(_number: int, _frame: object) -> None:
    pass


def _stop(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, _do_nothing)  # a second one must not break the cleaning up
    raise Stopped(128 + signal.SIGTERM)
