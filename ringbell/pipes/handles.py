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
from ringbell.channel.descriptors import Descriptor, Descriptors, os_error

Handles: TypeAlias = tuple[Any, ...]
"""What is pickled in the place of each descriptor."""


def pass_on(owned: Descriptors) -> Handles:
    """Have copies of the descriptors handed out to the process that unpickles what this gives."""
    assert owned.segment is not None, "a connection keeps it until the first use"
    descriptors = (owned.control.fileno(), owned.segment.fileno(), *owned.numbers())
    return tuple(DupFd(descriptor) for descriptor in descriptors)


def open_again(handles: Handles) -> Descriptors:
    """Take the descriptors in this process; raises OSError when there is no room for them."""
    owned = Descriptors(_adopt(handles[0]))
    try:
        owned.segment = _adopt(handles[1])
        for handle in handles[2:]:
            owned.wake_fds.append(_adopt(handle))
    except BaseException:
        owned.close()
        raise
    return owned


def _adopt(handle: Any) -> Descriptor:
    adopted = Descriptor()
    if status := lib.rb_owned_adopt(adopted.handle, handle.detach()):
        raise os_error(-status, f"cannot take a connection: {os.strerror(-status)}")
    # A forked child has its copy, until one of the two uses the connection.
    lib.rb_owned_share(adopted.handle)
    return adopted
