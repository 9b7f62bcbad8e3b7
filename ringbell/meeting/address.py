# SPDX-License-Identifier: MIT
"""Where a name is to be found: the path of its Unix socket."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

LONGEST = 107
"""Bytes of a socket's path: sun_path has 108, one is the NUL."""


def socket_path(name: str | os.PathLike[str]) -> Path:
    """Turn a channel's name into the path of its socket; what has a slash is a path already.

    A plain name lies in `$XDG_RUNTIME_DIR/ringbell/`, or in `/tmp/ringbell-<uid>/` where that is
    not set. Raises ValueError for a text that cannot be a name.
    """
    text = os.fspath(name)
    if not isinstance(text, str):
        raise TypeError(f"a channel's name is a str or a path, not {type(text).__name__}")
    if not text or "\0" in text or text in (".", ".."):
        raise ValueError(f"{text!r} cannot be the name of a channel")
    path = Path(text) if "/" in text else names_folder() / f"{text}.sock"
    if len(os.fsencode(path)) > LONGEST:
        raise ValueError(f"{path} is too long for a Unix socket: {LONGEST} bytes is the limit")
    return path


def names_folder() -> Path:
    """Say where plain names live."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "ringbell" if runtime else Path(f"/tmp/ringbell-{os.geteuid()}")


def prepare_folder(path: Path) -> None:
    """Make the folder of a plain name if need be; refuse one in which others could meddle.

    Raises PermissionError when it belongs to somebody else or others may enter it. The folder of
    a path that the user gave is not checked.
    """
    if path.parent != names_folder():
        return
    path.parent.mkdir(mode=0o700, exist_ok=True)
    check_folder(path)


def check_folder(path: Path) -> None:
    """Refuse a folder of plain names that is not ours alone; see `prepare_folder`."""
    if path.parent != names_folder():
        return
    try:
        status = path.parent.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        complaint = "it is not a folder"
    elif status.st_uid != os.geteuid():
        complaint = f"it belongs to user {status.st_uid}, and you are {os.geteuid()}"
    elif stat.S_IMODE(status.st_mode) & 0o077:
        complaint = f"others may enter it (mode {stat.S_IMODE(status.st_mode):o}, not 700)"
    else:
        return
    raise PermissionError(
        errno.EPERM,
        f"the socket folder {path.parent} is not safe: {complaint}; remove it, or set "
        "XDG_RUNTIME_DIR, or name the socket by a path",
    )
