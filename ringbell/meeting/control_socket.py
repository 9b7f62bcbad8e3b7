# SPDX-License-Identifier: MIT
"""The Unix socket of a name: connecting to it, and listening on it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import time
from pathlib import Path

from ringbell.channel import forks
from ringbell.channel.closing import Closing
from ringbell.deadlines import seconds_left
from ringbell.errors import ChannelClosed

_BACKLOG = 16
_BACKLOG_PAUSE = 0.005  # seconds


def connect_socket(path: Path, deadline: float | None) -> socket.socket:
    """Connect to whoever listens on `path`.

    Blocks while so many wait to be accepted that the kernel queues no more. Raises
    ConnectionRefusedError when nobody listens, and TimeoutError.
    """
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        control.setblocking(False)
        while True:
            try:
                control.connect(os.fspath(path))
                return control
            except BlockingIOError:
                # The kernel tells nobody when its queue is shorter again.
                if seconds_left(deadline) == 0:
                    raise TimeoutError(
                        f"somebody listens on {path}, but too many wait for it already"
                    ) from None
                time.sleep(_BACKLOG_PAUSE)
    except FileNotFoundError as error:
        control.close()
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {path}") from error
    except BaseException:
        control.close()
        raise


class ListeningSocket(Closing):
    """Listens on the socket of a name, and keeps a file beside it locked meanwhile.

    The kernel frees the lock when the process ends, so a socket without a lock was left behind by
    a killed process, and is taken over.
    """

    __slots__ = ("__weakref__", "_inode", "_lock", "_socket", "path")

    def __init__(self, path: Path) -> None:
        """Listen on `path`; raises OSError (EADDRINUSE) when somebody does already."""
        self.path: Path = path
        self._inode = 0
        self._socket: socket.socket | None = None
        self._lock = _lock(path)
        try:
            _remove_stale_socket(path)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.bind(os.fspath(path))
            self._inode = path.stat().st_ino
            path.chmod(0o600)
            self._socket.listen(_BACKLOG)
            forks.watch(self)
        except BaseException:
            self.close()
            raise

    @property
    def listens(self) -> bool:
        """Whether it has not been closed."""
        return self._socket is not None

    def accept(self, deadline: float | None) -> socket.socket:
        """Wait for somebody to connect.

        Raises TimeoutError when the deadline has passed, ChannelClosed after close.
        """
        if self._socket is None:
            raise ChannelClosed("this listener has been closed; listen again to go on")
        self._socket.settimeout(seconds_left(deadline))
        try:
            return self._socket.accept()[0]
        except (TimeoutError, BlockingIOError):
            raise TimeoutError(f"nobody connected to {self.path} within the timeout") from None
        except OSError:
            if self._socket is None:  # closed by a signal handler or another thread
                return self.accept(deadline)
            raise

    def close(self) -> None:
        """Stop listening and free the name. Channels that were accepted live on.

        A wait in another thread ends with ChannelClosed. Closing twice does nothing.
        """
        listening, self._socket = self._socket, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes accept
            listening.close()
            # Only our socket: somebody may have removed it and listen on another one by now.
            with contextlib.suppress(FileNotFoundError):
                if self.path.lstat().st_ino == self._inode:
                    self.path.unlink()
        lock, self._lock = self._lock, -1
        if lock != -1:
            with contextlib.suppress(FileNotFoundError):
                if _lock_path(self.path).stat().st_ino == os.fstat(lock).st_ino:
                    _lock_path(self.path).unlink()
            os.close(lock)
        forks.forget(self)

    def leave_to_parent(self) -> None:
        """Close the copies of a forked child: the name is the parent's."""
        listening, self._socket = self._socket, None
        if listening is not None:
            listening.close()
        lock, self._lock = self._lock, -1
        if lock != -1:
            os.close(lock)


def _remove_stale_socket(path: Path) -> None:
    """Remove the socket that a killed process left; raise OSError for what is anything else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(
            errno.EEXIST, f"{path} is there and is no socket; remove it or use another name"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except OSError:
            pass  # alive, but of another kind or busy
    raise _in_use(path)


def _in_use(path: Path) -> OSError:
    return OSError(
        errno.EADDRINUSE,
        f"somebody listens on {path} already; stop that process or use another name",
    )


def _lock_path(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path) -> int:
    """Lock the name; the kernel frees the lock when the process ends, however it does."""
    while True:
        lock = os.open(
            _lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed the file between our open and our lock.
            if _lock_path(path).stat().st_ino == os.fstat(lock).st_ino:
                return lock
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(lock)
            raise _in_use(path) from None
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
