# SPDX-License-Identifier: MIT
"""The device process of the demo; it ends when the process that started it ends.

python -m ringbell.command.demo_device PARENT PATH WORK KICK POLLING [CPU]
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

from ringbell.calls.opening import listen
from ringbell.calls.serving import serve_on
from ringbell.command.demo import WORKS
from ringbell.policy import Kick, Polling

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def _end_with(parent: int) -> None:
    """Have the kernel send SIGTERM when the parent has ended; exit if it has already."""
    for number in _ENDS:
        signal.signal(number, _end)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)


def main(
    parent: str, path: str, work: str, kick: Kick, polling: Polling, cpu: str | None = None
) -> None:
    """Answer the demo's requests, and leave nothing behind."""
    try:
        _end_with(int(parent))
        with listen(path, kick=kick, polling=polling, cpu=int(cpu) if cpu else None) as listener:
            print(f"listening on {path}", flush=True)
            serve_on(listener, WORKS[work])
    finally:
        shutil.rmtree(Path(path).parent, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]  # Policy checks it
