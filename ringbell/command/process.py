# SPDX-License-Identifier: MIT
"""The process of a command: how it ends, and whether it can start others."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn


def end_tidily() -> None:
    """Leave no socket behind when a signal, or the end of the terminal, ends the command."""
    signal.signal(signal.SIGTERM, _exit)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # which is how nohup starts us
        signal.signal(signal.SIGHUP, _exit)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def check_python() -> None:
    """Raise if there is no Python that a new process could run."""
    if getattr(sys, "frozen", False):
        raise RuntimeError("this command starts Python in new processes; a frozen program has none")
