# SPDX-License-Identifier: MIT
"""Waiting for many ends at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from ringbell import _ends
from ringbell.policy import MAX_POLL, MAX_SHARE, Policy, Polling

_Waited = TypeVar("_Waited")


if TYPE_CHECKING:
    _Waiter = _ends.Waiter
else:

    class _Waiter(_ends.Waiter, Generic[_Waited]):
        __slots__ = ()


class Waiter(_Waiter[_Waited]):
    """Waits for many ends at once; a context manager, for one thread at a time.

    with ringbell.Waiter(drivers) as waiter:
        while len(waiter):
            for driver in waiter.wait():
                ...  # reap(timeout=0) until RingEmpty

    A member is a driver, a device, a consumer, a listener, or any object with a `fileno()`. However
    many there are, a wait looks only at those that were busy lately, and sleeps at most once.
    """

    __slots__ = ()

    def __new__(
        cls,
        members: Iterable[_Waited] = (),
        *,
        polling: Polling = "adaptive",
        max_poll: float = MAX_POLL,
        max_share: float = MAX_SHARE,
    ) -> Waiter[_Waited]:
        """Wait for `members`, and for those that `add` adds.

        `polling`, `max_poll` and `max_share` are those of `connect`. Raises what `add` raises;
        OSError (EMFILE) when there is no file descriptor left, of which a waiter takes two.
        """
        how, max_poll_ns, share, _ = Policy(polling, max_poll, max_share).as_arguments()
        waiter = super().__new__(cls, how, max_poll_ns, share)
        for member in members:
            waiter.add(member)
        return waiter


def wait(members: Iterable[_Waited], timeout: float | None = None) -> list[_Waited]:
    """Wait until something can be taken from one of `members`, and give a list of all such members.

    In the manner of `multiprocessing.connection.wait`, for drivers, devices, consumers, listeners,
    and all objects with a `fileno()`. Gives an empty list when nothing came within `timeout`
    seconds; None waits for ever. For more than a few members, or again and again, a `Waiter` is
    quicker. Raises what `Waiter` and `Waiter.wait` raise.
    """
    with Waiter(members) as waiter:
        return waiter.wait(timeout)
