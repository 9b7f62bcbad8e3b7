# SPDX-License-Identifier: MIT
"""From a channel's name to the path of its Unix socket."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ringbell.arguments import shown

LONGEST = 107
"""Bytes of a socket's path: sun_path has 108, one is the NUL."""


def socket_path(name: str | os.PathLike[str]) -> Path:
    """Turn a channel's name into the path of its socket; a name with a slash is the path itself.

    A plain name lies in `$XDG_RUNTIME_DIR/ringbell/`, or in `/tmp/ringbell-<uid>/` where that
    variable is not set. Raises TypeError if it is no text, ValueError if it cannot be a name.
    """
    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else name
    if not isinstance(text, str):
        raise TypeError(f"a channel's name is a str, or a path of the type str, not {shown(text)}")
    if not text or "\0" in text or text in (".", "..") or text.endswith("/"):
        raise ValueError(
            f"{shown(text)} cannot be the name of a channel; a name is any text without a slash, "
            "or the path of the Unix socket"
        )
    path = Path(text) if "/" in text else names_folder() / f"{text}.sock"
    if len(os.fsencode(path)) > LONGEST:
        raise ValueError(f"{path} is too long for a Unix socket: {LONGEST} bytes is the limit")
    return path


def names_folder() -> Path:
    """Say where plain names live."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "ringbell" if runtime else _folder_without_runtime()


def _folder_without_runtime() -> Path:
    return Path(f"/tmp/ringbell-{os.geteuid()}")


def _folder_of_session() -> Path:
    """Say where the folder of a login shell usually is."""
    return Path(f"/run/user/{os.geteuid()}/ringbell")


def hint_about(path: Path) -> str:
    """Say why nobody may be found at a path, as the end of a sentence; "" when nothing is known.

    A login shell has `XDG_RUNTIME_DIR`; a service, `cron` or `sudo` often has not. Then the two
    sides look in two folders.
    """
    if path.parent != names_folder():
        return "" if path.parent.is_dir() else f"; there is no folder {path.parent}"
    for folder in (_folder_without_runtime(), _folder_of_session()):
        other = folder / path.name
        if other.parent != path.parent and _is_our_socket(other):
            return (
                f"; a socket of that name is in another folder, {other}: set XDG_RUNTIME_DIR "
                "alike on both sides, or name the socket by its path"
            )
    return ""


def _is_our_socket(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and status.st_uid == os.geteuid()


def prepare_folder(path: Path) -> None:
    """Make the folder of a plain name if it is missing; refuse a folder that others may enter.

    Raises PermissionError when the folder belongs to another user or others may enter it, OSError
    when it cannot be made. If the user gave a path, its folder has to exist, and may belong to
    anybody.
    """
    if path.parent == names_folder():
        try:
            path.parent.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot make the socket folder {path.parent} ({error.strerror}); make "
                f"{path.parent.parent}, unset XDG_RUNTIME_DIR, or name the socket by a path",
            ) from error
        check_folder(path)
    elif not path.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT,
            f"there is no folder {path.parent} for the socket {path}; make it first, or use a name "
            "without a slash",
        )


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
