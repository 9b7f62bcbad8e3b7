# SPDX-License-Identifier: MIT
"""How the descriptors of a connection get into another process.

multiprocessing does that, as for its own connections. A process that is being spawned inherits
them. To a process that is there already, a thread of this one hands them out (the resource sharer).
"""

from __future__ import annotations

import os
from multiprocessing.reduction import DupFd
from typing import Any, TypeAlias

from ringbell._ffi import lib
from ringbell.channel.descriptors import Descriptor, Descriptors, HasDescriptor, Share, os_error

Handles: TypeAlias = tuple[Any, ...]
"""What is pickled in the place of each descriptor."""


def pass_on(owned: Descriptors) -> Handles:
    """Have copies of the descriptors handed out to the process that unpickles what this gives."""
    assert owned.segment is not None, "a connection keeps it until the first use"
    owned.segment = _unshared(owned.segment)
    owned.wake_fds = [_unshared(one) for one in owned.wake_fds]
    owned.pools = [_unshared(one) for one in owned.pools]
    descriptors = (owned.control, owned.segment, *owned.wake_fds, *owned.pools)
    return tuple(DupFd(descriptor.fileno()) for descriptor in descriptors)


def open_again(handles: Handles) -> Descriptors:
    """Take the descriptors in this process; raises OSError when there is no room for them."""
    owned = Descriptors(_adopt(handles[0].detach()))
    try:
        owned.segment = _adopt(handles[1].detach())
        for handle in handles[2:4]:
            owned.wake_fds.append(_adopt(handle.detach()))
        for handle in handles[4:]:
            owned.pools.append(_adopt(handle.detach()))
    except BaseException:
        owned.close()
        raise
    return owned


def _unshared(descriptor: HasDescriptor) -> HasDescriptor:
    """Give a copy of a descriptor that both ends share, as a process may get both ends."""
    return _adopt(os.dup(descriptor.fileno())) if isinstance(descriptor, Share) else descriptor


def _adopt(number: int) -> Descriptor:
    adopted = Descriptor()
    if status := lib.rb_owned_adopt(adopted.handle, number):
        raise os_error(-status, f"cannot take a connection: {os.strerror(-status)}")
    # A forked child has its copy, until one of the two uses the connection.
    lib.rb_owned_share(adopted.handle)
    return adopted
