# SPDX-License-Identifier: MIT
"""What a library leaves behind, found by the token that is in every name it was given."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# The suffixes of files that the adaptors make; the libraries do not.
OUR_MARKS = frozenset({".made", ".pid"})
_PLACES = (Path("/dev/shm"), Path("/tmp"))


def traces_of(token: str, folder: str | None = None) -> list[Path]:
    """Files and sockets with the token in their name, and everything in the folder.

    The run's own folder is counted by its files, not by its folders.
    """
    found = [path for place in _PLACES for path in place.glob(f"*{token}*")]
    if folder:
        for where, _, names in os.walk(folder):
            found += [Path(where) / name for name in names]
    return [path for path in found if path.suffix not in OUR_MARKS]


def remove_traces(token: str) -> None:
    for path in traces_of(token):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
