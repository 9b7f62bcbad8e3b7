# SPDX-License-Identifier: MIT
"""The Unix socket of a name: connecting to it, and listening on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
import warnings
from pathlib import Path

from ringbell._ffi import lib
from ringbell.channel import forks
from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import Descriptor, make, os_error
from ringbell.deadlines import seconds_left
from ringbell.meeting.address import LONGEST, names_folder

_TURN_MS = 20  # the longest wait in the kernel, because no signal handler runs in it
_SWEEP_PAUSE = 0.001  # seconds
_SWEEP_LOOKS = 20


def make_socket() -> Descriptor:
    """Make a socket on which nothing blocks."""
    return make("a socket", lib.rb_socket_make)


def reachable(path: Path) -> bytes:
    """Give a path as a socket takes it: absolute, unless only the relative path is short enough."""
    whole = os.fsencode(path.absolute())
    return whole if len(whole) <= LONGEST else os.fsencode(path)


def connect_socket(path: Path, deadline: float | None) -> Descriptor:
    """Connect to the process that listens on `path`.

    Blocks while the kernel's queue of processes to be accepted is full. Raises
    ConnectionRefusedError when nobody listens, TimeoutError when the queue stays full.
    """
    control = make_socket()
    while status := lib.rb_socket_connect(
        control.fileno(), reachable(path), 0 if seconds_left(deadline) == 0 else _TURN_MS
    ):
        if status in (-errno.ENOENT, -errno.ECONNREFUSED):
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {path}")
        if status not in (-errno.EAGAIN, -errno.EINTR):
            raise os_error(-status, f"cannot connect to {path}: {os.strerror(-status)}")
        if seconds_left(deadline) == 0:
            raise TimeoutError(f"somebody listens on {path}, but too many others wait there")
    return control


class ListeningSocket(Closing):
    """Listens on the socket of a name, and keeps a file beside the socket locked meanwhile.

    The kernel frees the lock when the process ends. So a socket without a lock was left behind by
    a killed process, and the next listener takes it over.
    """

    __slots__ = ("__weakref__", "_inode", "_lock", "_socket", "forked", "listens", "path")

    def __init__(self, path: Path, patient: bool = True) -> None:
        """Listen on `path`; raises OSError (EADDRINUSE) when another process does already.

        If `patient`, it tries a locked name again: perhaps a sweep of the folder holds the lock for
        a moment.
        """
        # Absolute, so that `close` finds the socket even after a change of the current folder.
        self.path: Path = path.absolute()
        self.listens: bool = True
        """Whether it has not been closed."""
        self.forked: bool = False
        """Whether this is a forked child's copy."""
        self._inode = 0
        self._socket: Descriptor | None = None
        self._lock: Descriptor | None = None
        forks.watch(self)
        try:
            self._lock = _lock(self.path, _SWEEP_LOOKS if patient else 1)
            _remove_stale_socket(path)
            self._socket = make_socket()
            _bind(self._socket, path)
            self._inode = self.path.stat().st_ino
            self.path.chmod(0o600)
            if status := lib.rb_socket_listen(self._socket.fileno()):
                raise OSError(-status, f"cannot listen on {path}: {os.strerror(-status)}")
            if self.path.parent == names_folder():
                sweep_names()
        except BaseException:
            self.close()
            raise

    @property
    def socket(self) -> Descriptor | None:
        """The socket to wait on; None once it has been closed.

        If another thread closes it during a wait, the socket becomes readable, and this is None.
        """
        return self._socket if self.listens else None

    def close(self) -> None:
        """Stop listening and free the name.

        A thread that waits on the socket wakes up. Closing twice does nothing.
        """
        # A signal handler that raises may end this anywhere, so each step may be done twice.
        self.listens = False
        if (listening := self._socket) is not None:
            # Wakes the threads that wait on it. Its last reference closes the descriptor.
            lib.rb_socket_shutdown(listening.fileno())
            # Remove our own socket only: another process may have replaced it with its own.
            with contextlib.suppress(FileNotFoundError):
                if lib.rb_socket_is_bound(listening.fileno()) == 1 and (
                    self._inode in (0, self.path.lstat().st_ino)
                ):
                    self.path.unlink()
            self._socket = None
        if (lock := self._lock) is not None:
            _unlock(lock, self.path)
            self._lock = None
        forks.forget(self)

    def leave_to_parent(self) -> None:
        """Forget the descriptors in a forked child: they are closed; the parent has the name."""
        self.listens = False
        self.forked = True
        self._socket = self._lock = None

    def __del__(self) -> None:
        if not getattr(self, "listens", False):  # closed, or not even begun
            return
        self.close()
        warnings.warn(
            f"nobody closed what listens on {self.path}; use a with block or close()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )


def _bind(listening: Descriptor, path: Path) -> None:
    status = lib.rb_socket_bind(listening.fileno(), reachable(path))
    if status == -errno.EADDRINUSE:
        raise _in_use(path)
    if status:
        raise OSError(-status, f"cannot make the socket {path}: {os.strerror(-status)}")


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket that a killed process left; raise OSError if it is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(
            errno.EEXIST, f"{path} is there and is no socket; remove it or use another name"
        )
    with make_socket() as probe:
        # Any answer but a refusal: somebody listens, but on another kind of socket, or is busy.
        if lib.rb_socket_connect(probe.fileno(), reachable(path), 0) != -errno.ECONNREFUSED:
            raise _in_use(path)
    path.unlink()


def _in_use(path: Path) -> OSError:
    return OSError(
        errno.EADDRINUSE,
        f"somebody listens on {path} already; stop that process or use another name",
    )


# ---- the lock of a name ----


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path, looks: int) -> Descriptor:
    """Lock the name; the kernel frees the lock when the process ends, however it ends."""
    if path.parent != names_folder():
        looks = 1  # no sweep touches that folder
    while True:
        lock = make(f"the lock of {path}", lib.rb_owned_file, os.fsencode(_lock_path(path)))
        try:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            looks -= 1
            if not looks:
                raise _in_use(path) from None
            time.sleep(_SWEEP_PAUSE)  # a sweep may hold the lock for a moment
            continue
        if _is_at(lock, _lock_path(path)):
            return lock
        # The last owner removed the file between our open and our lock.


def _is_at(lock: Descriptor, path: Path) -> bool:
    try:
        return path.lstat().st_ino == os.fstat(lock.fileno()).st_ino
    except FileNotFoundError:
        return False


def _unlock(lock: Descriptor, path: Path) -> None:
    """Free the name if we have locked it; an interrupt may have come before that."""
    if lock.fileno() < 0:
        return
    with lock, contextlib.suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, _lock_path(path)):
            _lock_path(path).unlink()


# ---- names that killed processes left ----


def sweep_names() -> list[Path]:
    """Remove the sockets and locks that killed processes left in the folder of plain names.

    Gives the sockets whose names are free again. Does nothing if the folder belongs to another
    user, and skips what it cannot remove. Does not block.
    """
    folder = names_folder()
    try:
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return []
        locks = sorted(folder.glob("*.sock.lock"))
    except OSError:
        return []
    return [path for lock in locks if _sweep(path := lock.with_suffix(""))]


def free_name(path: Path) -> None:
    """Remove what a process that has ended left of its name. Does nothing if another one has it."""
    if _lock_path(path).exists():
        _sweep(path)


def _sweep(path: Path) -> bool:
    """Remove the socket and the lock of a name; say whether that was possible."""
    try:
        with make("a lock", lib.rb_owned_file, os.fsencode(_lock_path(path))) as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(lock, _lock_path(path)):
                return False
            _remove_stale_socket(path)
            _lock_path(path).unlink()
    except OSError:
        return False  # a live process has the name, or it is not ours
    return True
