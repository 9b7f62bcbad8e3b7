# SPDX-License-Identifier: MIT
"""The standard input, output and error of the command. A shell may have closed any of them."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

_STANDARD = Path("-")
_LAST = 2


def occupy() -> None:
    """Open /dev/null in the place of each closed one, so that none of our files gets its number.

    Python noticed the closed ones when it started: `sys.stdout`, for instance, is None.
    """
    try:
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST:
            pass
    except OSError:
        return
    os.close(descriptor)


def print_any_name() -> None:
    """Have the standard output escape what its encoding has not, such as parts of a file's name."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def check_input(files: list[Path]) -> None:
    """Raise OSError (EBADF) when the standard input is among the files, but closed."""
    if _STANDARD in files and sys.stdin is None:
        raise OSError(errno.EBADF, "the standard input is closed; name a file, or open it")


def is_typed(files: list[Path]) -> bool:
    """Whether somebody types what is sent, on a terminal."""
    return _STANDARD in files and sys.stdin is not None and sys.stdin.isatty()


def is_read(file: Path) -> bool:
    """Whether somebody reads what comes, on a terminal."""
    return file == _STANDARD and sys.stdout is not None and sys.stdout.isatty()


def check_output(file: Path) -> None:
    """Raise OSError (EBADF) when the file is the standard output, but closed."""
    if file == _STANDARD and sys.stdout is None:
        raise OSError(errno.EBADF, "the standard output is closed; name a file, or open it")
