# SPDX-License-Identifier: MIT
"""The standard input, output and errors of the command, any of which a shell may have closed."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

_STANDARD = Path("-")
_LAST = 2


def occupy() -> None:
    """Put /dev/null where one is closed, so that no file of ours is taken for it.

    Python has seen by now that it is closed, and has no `sys.stdout` then.
    """
    try:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST:
            pass
    except OSError:
        return
    os.close(descriptor)


def check_input(files: list[Path]) -> None:
    """Raise OSError (EBADF) when the input is among the files, and closed."""
    if _STANDARD in files and sys.stdin is None:
        raise OSError(errno.EBADF, "the standard input is closed; name a file, or open it")


def check_output(file: Path) -> None:
    """Raise OSError (EBADF) when that is the output, and closed."""
    if file == _STANDARD and sys.stdout is None:
        raise OSError(errno.EBADF, "the standard output is closed; name a file, or open it")
