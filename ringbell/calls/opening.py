# SPDX-License-Identifier: MIT
"""`connect` and `listen`: how a driver and a device come to share a channel."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ringbell.calls.driver import Driver, drive
from ringbell.calls.listener import Listener
from ringbell.channel.descriptors import Descriptor, Descriptors
from ringbell.deadlines import deadline_after
from ringbell.meeting import handshake, segment
from ringbell.meeting.address import check_folder, prepare_folder, socket_path
from ringbell.meeting.control_socket import connect_socket
from ringbell.pinning import pin
from ringbell.policy import MAX_POLL, MAX_SHARE, Kick, Moderation, Policy, Polling

CONNECT_SECONDS = 10.0
"""How long `connect` waits for the device to take the channel, unless asked for otherwise."""


def connect(
    name: str | os.PathLike[str],
    *,
    ring_size: int = segment.RING_SIZE,
    timeout: float | None = CONNECT_SECONDS,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    memory: segment.Memory | None = None,
) -> Driver:
    """Open a channel to the device that listens under `name`, and drive it.

    Makes the shared memory: two rings of `ring_size` bytes, a power of two. Blocks until the
    device accepts. Options:

    - `timeout`: seconds to wait for that, None for ever. A device serves one driver after the
      other, so it may be busy.
    - `cpu`: pins the calling thread to this CPU; it stays pinned.
    - `polling`: how this side waits. `"adaptive"` looks at shared memory before it sleeps, for at
      most `max_poll` seconds, and learns how long that pays (the scheme of QEMU's AioContext);
      `"never"` sleeps at once; `"always"` never sleeps and takes a whole CPU.
    - `max_share`: how much of the time adaptive polling may take, from 0 to 1, in each end of this
      side; a wait that has nothing left of it sleeps at once.
    - `kick`: `"asleep"` wakes the device when it sleeps (VIRTIO's event index); `"always"` writes
      to its eventfd for every entry, to show what that costs.
    - `moderation`: when this side wants to be woken once it sleeps; None is at once.
    - `max_message`: bytes of the longest message that this side takes; None is as much as the
      machine has memory available when the message comes. A request or an answer that is longer
      fails with RequestFailed, which says so; any other message raises MessageTooLong where it
      would be taken.
    - `memory`: `"memfd"` is memory without a place in the file system, sealed so that nobody can
      shorten it; `"posix"` is a file on /dev/shm, within its size. None takes a memfd, and /dev/shm
      only where the system has no memfd. `stats().memory` says which it is.

    Raises ConnectionRefusedError when nobody listens, TimeoutError, PeerLost when the device goes
    away meanwhile, PermissionError when it is another user's, LayoutMismatch when it is of another
    version, OSError (ENOSPC) when there is too little memory, ValueError for bad options.
    """
    policy = Policy(polling, max_poll, max_share, kick, moderation, max_message)
    path = socket_path(name)
    check_folder(path)
    pin(cpu)
    deadline = deadline_after(timeout)
    with segment.create(ring_size, memory) as made:
        while True:
            with Descriptors(Descriptor()) as owned:
                handshake.make_kick_fds(owned)
                owned.control = _reach(name, path, deadline)
                try:
                    return drive(handshake.offer(owned, "driver", made, policy, deadline))
                except BlockingIOError:
                    continue  # it had too many guests at once
                except TimeoutError:
                    raise TimeoutError(
                        f"{str(name)!r} listens but did not accept within {timeout} seconds; it "
                        "serves one driver at a time and may be busy with another"
                    ) from None


def _reach(name: str | os.PathLike[str], path: Path, deadline: float | None) -> Descriptor:
    """Connect to the device; say what to do if there is none."""
    try:
        return connect_socket(path, deadline)
    except ConnectionRefusedError:
        raise ConnectionRefusedError(
            errno.ECONNREFUSED,
            f"nobody listens on {str(name)!r} ({path}); start the device first, for instance "
            f"with ringbell.serve({str(name)!r}, ...)",
        ) from None


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
) -> Listener:
    """Listen for drivers under `name`; what has a slash is the path of the Unix socket itself.

    Does not block; `Listener.accept` does. The options are those of `connect`, for this side. A
    name that a killed process left behind is taken over.

    Raises OSError (EADDRINUSE) when somebody listens there, PermissionError when the socket folder
    is not this user's alone, ValueError for bad options.
    """
    policy = Policy(polling, max_poll, max_share, kick, moderation, max_message)
    path = socket_path(name)
    prepare_folder(path)
    pin(cpu)
    return Listener(path, policy)
