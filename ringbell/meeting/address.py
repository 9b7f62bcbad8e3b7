# SPDX-License-Identifier: MIT
"""Where a name is to be found: the path of its Unix socket."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ringbell.arguments import shown

LONGEST = 107
"""Bytes of a socket's path: sun_path has 108, one is the NUL."""


def socket_path(name: str | os.PathLike[str]) -> Path:
    """Turn a channel's name into the path of its socket; what has a slash is a path already.

    A plain name lies in `$XDG_RUNTIME_DIR/ringbell/`, or in `/tmp/ringbell-<uid>/` where that is
    not set. Raises TypeError for what is no text, ValueError for a text that cannot be a name.
    """
    text = os.fspath(name) if isinstance(name, (str, os.PathLike)) else name
    if not isinstance(text, str):
        raise TypeError(f"a channel's name is a str, or a path of the type str, not {shown(text)}")
    if not text or "\0" in text or text in (".", "..") or text.endswith("/"):
        raise ValueError(
            f"{shown(text)} cannot be the name of a channel; a name is any text without a slash, "
            "and what has one is the path of the Unix socket itself"
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
    """Where the folder of a login shell usually is."""
    return Path(f"/run/user/{os.geteuid()}/ringbell")


def hint_about(path: Path) -> str:
    """Say why nobody may be found at a path, as the end of a sentence; "" when nothing is known.

    A login shell has `XDG_RUNTIME_DIR`, and a service, `cron` or `sudo` often has not: so the two
    sides may look into two folders.
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
    """Make the folder of a plain name if need be; refuse one in which others could meddle.

    Raises PermissionError when it belongs to somebody else or others may enter it, and OSError
    when it cannot be made. The folder of a path that the user gave has to be there, and may be
    anybody's.
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
