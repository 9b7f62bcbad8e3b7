# SPDX-License-Identifier: MIT
"""Where a device waits for drivers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

from ringbell import forks, handshake, segment
from ringbell._ffi import lib
from ringbell.channel import Channel, deadline_after, seconds_left
from ringbell.closing import Closing
from ringbell.device import Device
from ringbell.errors import ChannelClosed, LayoutMismatch, PeerLost
from ringbell.policy import Policy

_log = logging.getLogger("ringbell")
_BACKLOG = 16
_HANDSHAKE = 2.0


class Listener(Closing):
    """Listens under a name; made by `listen`. A context manager; leaving it frees the name.

    While it lives it holds a lock on a file beside the socket. So a name is in use exactly as long
    as its process lives, and a socket that a killed process left behind is taken over.
    """

    __slots__ = ("__weakref__", "_inode", "_lock", "_policy", "_socket", "path")

    def __init__(self, path: Path, policy: Policy) -> None:
        """Listen on a Unix socket at `path`; users call `listen`.

        Raises OSError (EADDRINUSE) when somebody listens there already.
        """
        self.path = path
        self._policy = policy
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

    def accept(self, timeout: float | None = None) -> Device:
        """Wait for a driver and open the channel that it brings.

        Blocks while none connects. Raises TimeoutError after `timeout` seconds; LayoutMismatch
        when a driver brought a segment of another version or geometry (it is told so, and the
        listener can accept the next one); ChannelClosed after close. A driver that goes away while
        it introduces itself is passed over, one of another user is refused.
        """
        deadline = deadline_after(timeout)
        while True:
            control = self._accept_socket(deadline)
            with ExitStack() as guard:
                guard.callback(control.close)
                try:
                    return self._welcome(control, guard, deadline)
                except LayoutMismatch as error:
                    with contextlib.suppress(OSError):
                        handshake.send_refusal(control, str(error))
                    raise
                except (PeerLost, ConnectionError, TimeoutError) as error:
                    _log.info("a driver on %s went away: %s", self.path, error)
                except OSError as error:  # another user's, or its memory cannot be mapped
                    _log.warning("refused a driver on %s: %s", self.path, error)
                    with contextlib.suppress(OSError):
                        handshake.send_refusal(control, str(error))

    def _accept_socket(self, deadline: float | None) -> socket.socket:
        if self._socket is None:
            raise ChannelClosed("this listener has been closed; listen again to go on")
        self._socket.settimeout(seconds_left(deadline))
        try:
            return self._socket.accept()[0]
        except (TimeoutError, BlockingIOError):
            raise TimeoutError(f"no driver connected to {self.path} within the timeout") from None
        except OSError:
            if self._socket is None:  # closed by a signal handler or another thread
                return self._accept_socket(deadline)
            raise

    def _welcome(self, control: socket.socket, guard: ExitStack, deadline: float | None) -> Device:
        left = seconds_left(deadline)
        # A driver that is there has spoken already; one that does not must not hold up others.
        control.settimeout(_HANDSHAKE if left is None else min(_HANDSHAKE, max(left, 0.01)))
        peer_pid = handshake.peer_of(control)
        memory, kick_fds = handshake.receive_hello(control, guard)
        header = segment.check(memory)
        channel = Channel(
            header, lib.RB_DEVICE, memory, kick_fds, control, peer_pid, self._policy, guard
        )
        os.close(memory)  # mapped, and not needed again
        try:
            handshake.send_welcome(control)
        except OSError:
            channel.close()
            raise
        return Device(channel)

    def close(self) -> None:
        """Stop listening and free the name. Channels that were accepted live on.

        An `accept` in another thread ends with ChannelClosed. Closing twice does nothing.
        """
        listening, self._socket = self._socket, None
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes accept
            listening.close()
            # Ours only: somebody may have removed it and listen there by now.
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
        """After a fork, in the child: give back the copies; the name is the parent's."""
        listening, self._socket = self._socket, None
        if listening is not None:
            listening.close()
        lock, self._lock = self._lock, -1
        if lock != -1:
            os.close(lock)

    def __repr__(self) -> str:
        return f"<ringbell.Listener {self.path}{'' if self._socket else ', closed'}>"


def _remove_stale_socket(path: Path) -> None:
    """Remove what a killed process left; refuse what is something else, or alive."""
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
    """Lock the name; the lock goes with the process, however that ends."""
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
