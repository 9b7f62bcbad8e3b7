# SPDX-License-Identifier: MIT
"""What has descriptors is told, in a forked child, that it belongs to the parent.

`csrc/owned.c` has closed the child's copies of the descriptors by then. Here the Python objects
learn it: otherwise the child could say goodbye for the parent.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class _Owner(Protocol):
    def leave_to_parent(self) -> None: ...


_owners: weakref.WeakSet[_Owner] = weakref.WeakSet()
_hooked = False


def watch(owner: _Owner) -> None:
    """Have `owner.leave_to_parent()` called in every child forked from now on."""
    global _hooked
    if not _hooked:
        os.register_at_fork(after_in_child=_leave_all_to_parent)
        _hooked = True
    _owners.add(owner)


def forget(owner: _Owner) -> None:
    """Undo `watch`; does nothing if the owner is not watched."""
    _owners.discard(owner)


def _leave_all_to_parent() -> None:
    for owner in list(_owners):
        owner.leave_to_parent()
    _owners.clear()
