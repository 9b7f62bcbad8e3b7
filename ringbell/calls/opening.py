# SPDX-License-Identifier: MIT
"""`connect` and `listen`: how a driver and a device come to share a channel."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, overload

from ringbell.calls.driver import Driver, drive
from ringbell.calls.listener import Listener
from ringbell.channel.descriptors import Descriptor, Descriptors
from ringbell.codecs import codec_from
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.meeting import handshake, segment, waits
from ringbell.meeting.address import check_folder, hint_about, prepare_folder, socket_path
from ringbell.meeting.control_socket import connect_socket
from ringbell.pinning import pin
from ringbell.policy import MAX_POLL, MAX_SHARE, Blocks, Kick, Moderation, Policy, Polling

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ringbell._types import (
        AnyCodec,
        ConnectOptions,
        ListenOptions,
        ObjectCodec,
        ObjectDriver,
        ObjectListener,
    )

CONNECT_SECONDS = 10.0
"""How long `connect` waits by default for the device to accept."""

# Seconds. No event says that a name has appeared, as its folder may not be there yet. A look takes
# 10 us. A signal that comes just before a pause is handled after the pause, so pauses are short.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05

_log = logging.getLogger("ringbell")


@overload
def connect(
    name: str | os.PathLike[str],
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ConnectOptions],
) -> Driver: ...
@overload
def connect(
    name: str | os.PathLike[str],
    *,
    codec: ObjectCodec,
    **options: Unpack[ConnectOptions],
) -> ObjectDriver: ...
def connect(
    name: str | os.PathLike[str],
    *,
    ring_size: int = segment.RING_SIZE,
    timeout: float | None = CONNECT_SECONDS,
    wait: bool = False,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
    memory: segment.Memory | None = None,
) -> Driver:
    """Open a channel to the device that listens under `name`, and drive it.

    Makes the shared memory: two rings of `ring_size` bytes, a power of two. Blocks until the
    device accepts. Options:

    - `timeout`: seconds to wait until the device accepts, None for ever. `serve` accepts as soon as
      its handler returns; a device of your own accepts when it calls `accept`.
    - `wait`: also wait, within that time, until the device listens. Use it where both processes
      start at the same time.
    - `cpu`: pins the calling thread to this CPU; it stays pinned.
    - `polling`: how this side waits. `"adaptive"` looks at shared memory before it sleeps, for at
      most `max_poll` seconds, and learns how long that pays (the scheme of QEMU's AioContext);
      `"never"` sleeps at once; `"always"` never sleeps and takes a whole CPU.
    - `max_share`: the share of the time, from 0 to 1, that adaptive polling may take in each end of
      this side. When the share is used up, a wait sleeps at once.
    - `kick`: `"asleep"` wakes the device only when it sleeps (VIRTIO's event index). `"always"`
      writes to its eventfd for every entry, to show the cost.
    - `moderation`: when to wake this side once it sleeps; None is at once.
    - `max_message`: bytes of the longest message that this side takes. None is the memory that the
      machine has available when the message comes. A longer request or answer fails with
      RequestFailed; any other longer message raises MessageTooLong from the call that takes it.
    - `codec`: what the channel carries. `"bytes"` is any buffer, which arrives as bytes. `"pickle"`
      is any object that can be pickled; what lies in arrays is copied into the ring, and once more
      out of it, and nowhere else. A pickle can run any code, so both sides must be programs that
      you trust. A tuple of two functions, `(encode, decode)`, is a codec of your own: `encode`
      makes a buffer of an object, `decode` an object of bytes. Both sides give the same codec. The
      names of its functions tell, or a third element of the tuple, a name of its own.
    - `blocks`: how this side sends large payloads by reference; see `Blocks`. With None they go
      through the ring.
    - `memory`: `"memfd"` is memory outside the file system, sealed so that nobody can shorten it.
      `"posix"` is a file on /dev/shm, and the size of /dev/shm bounds it. None takes a memfd, and
      /dev/shm only where the system has no memfd. `stats().memory` says which it is.

    Raises ConnectionRefusedError when nobody listens (with `wait`: TimeoutError when nobody did in
    time), or when the device has no file descriptor left; TimeoutError when the device did not
    accept in time; PeerLost when the device went away meanwhile; PermissionError when the device is
    another user's; LayoutMismatch when it is of another version or has another codec; OSError
    (ENOSPC) when there is too little memory, (EMFILE, ENFILE) when there is no file descriptor
    left; TypeError or ValueError for bad options.
    """
    policy = Policy(
        polling, max_poll, max_share, kick, moderation, max_message, codec_from(codec), blocks
    )
    path = socket_path(name)
    deadline = deadline_after(timeout)
    check_folder(path)
    pin(cpu)
    reach = _wait_for if wait else _reach
    with segment.create(ring_size, memory) as made:
        while True:
            with Descriptors(Descriptor()) as owned:
                handshake.make_wake_fds(owned)
                owned.control = reach(path, deadline)
                try:
                    channel = handshake.offer(owned, "driver", made, policy, deadline, path)
                    return drive(channel)
                except BlockingIOError:
                    continue  # the device had too many guests at once
                except TimeoutError:
                    raise TimeoutError(
                        f"somebody listens on {path} but did not accept within {timeout} seconds; "
                        "its handler may be busy, or the program does not call accept"
                    ) from None


def _reach(path: Path, deadline: float | None) -> Descriptor:
    """Connect to the device; say what to do if there is none."""
    try:
        return connect_socket(path, deadline)
    except ConnectionRefusedError:
        raise ConnectionRefusedError(
            errno.ECONNREFUSED,
            f"nobody listens on {path}; start the device first, for instance with ringbell.serve, "
            f"or wait for it with wait=True{hint_about(path)}",
        ) from None


def _wait_for(path: Path, deadline: float | None) -> Descriptor:
    """Connect to the device as soon as it listens."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return connect_socket(path, deadline)
        except ConnectionRefusedError:
            pass
        if pause == _FIRST_PAUSE:
            _log.info("waiting for a device to listen on %s%s", path, hint_about(path))
        left = seconds_left(deadline)
        if left == 0:
            raise TimeoutError(f"nobody listened on {path} within the timeout{hint_about(path)}")
        waits.pause(pause if left is None else min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)


@overload
def listen(
    name: str | os.PathLike[str],
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ListenOptions],
) -> Listener: ...
@overload
def listen(
    name: str | os.PathLike[str],
    *,
    codec: ObjectCodec,
    **options: Unpack[ListenOptions],
) -> ObjectListener: ...
def listen(
    name: str | os.PathLike[str],
    *,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> Listener:
    """Listen for drivers under `name`; a name with a slash is the path of the Unix socket.

    Does not block; `Listener.accept` does. The options are those of `connect`, for this side. If a
    killed process left the name behind, this one takes it over.

    Raises OSError (EADDRINUSE) when another process listens there, PermissionError when the socket
    folder is not this user's alone, TypeError or ValueError for bad options.
    """
    policy = Policy(
        polling, max_poll, max_share, kick, moderation, max_message, codec_from(codec), blocks
    )
    path = socket_path(name)
    prepare_folder(path)
    pin(cpu)
    return Listener(path, policy)
