# SPDX-License-Identifier: MIT
"""The reading side of a publication, for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ringbell.aio.consumer import MessageConsumer, RecordConsumer
from ringbell.aio.stream import Consuming
from ringbell.publishing.lent import Lent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ringbell._ends import Taking
_T = TypeVar("_T")


class Subscribing(Consuming):
    """What a subscriber has that a consumer has not."""

    __slots__ = ()

    @property
    def missed(self) -> int:
        """How many entries this side did not get, since it subscribed; as the blocking `missed`."""
        missed: int = self._end.missed
        return missed

    def _keeps_newest(self) -> bool:
        newest: bool = self._end._keeps_newest()
        return newest

    async def _lent(self, taking: Taking[Any, _T], key: object, timeout: float | None) -> Lent[_T]:
        """Lend what the taking gives; the loan ends as that of the blocking `borrow`."""
        lent: Lent[_T] = Lent(self._end)
        lent._what = await self._taken(taking, key, timeout)
        return lent


class MessageSubscriber(Subscribing, MessageConsumer):
    """Receives the messages of a publication; made by `subscribe`.

    An asynchronous context manager. `async for message in subscriber` gives views until the
    publisher closes; or copies if the publication keeps the newest, because a view could be
    overwritten. It raises PeerLost when the publisher dies. For one task at a time: a second one
    gets RuntimeError. Cancelling a task that waits loses no message.
    """

    __slots__ = ()

    async def latest(self, timeout: float | None = None) -> bytes | memoryview:
        """Take the newest message, and pass over those before it.

        A copy; or, if the writer sent it by reference (see `ringbell.Blocks`), a read-only view of
        its block that you may keep. If the newest message has been taken already, waits for a newer
        one. Raises what `recv` raises.
        """
        return await self._taken(self._end._latest, 0, timeout)

    async def borrow(self, timeout: float | None = None) -> Lent[memoryview]:  # type: ignore[override]
        """Lend the next message in the ring: `with await subscriber.borrow() as view: ...`.

        Waits and raises as `recv` does. See `ringbell.Lent`.
        """
        return await self._lent(self._end._borrow, 0, timeout)

    async def __anext__(self) -> memoryview:
        if not self._keeps_newest():
            return await super().__anext__()
        message: memoryview = await self._next(self._end._recv, 0)  # bytes
        return message


class RecordSubscriber(Subscribing, RecordConsumer):
    """Takes the records of a publication; made by `subscribe`.

    An asynchronous context manager. `async for rows in subscriber` gives all that has arrived as
    one array that lies in the ring, again and again, until the publisher closes; or as a copy if
    the publication keeps the newest, because an array in the ring could be overwritten. It raises
    PeerLost when the publisher dies. For one task at a time: a second one gets RuntimeError.
    Cancelling a task that waits loses no record.
    """

    __slots__ = ()

    async def latest(self, timeout: float | None = None) -> Any:  # noqa: ANN401  (what the dtype says)
        """Take the newest record, as a copy, and pass over those before it.

        Gives what an element of an array of the dtype is. If the newest record has been taken
        already, waits for a newer one. Raises what `read` raises.
        """
        rows = await self._taken(self._end._latest, (1, 0), timeout)
        return rows[0]

    async def borrow(  # type: ignore[override]
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> Lent[NDArray[Any]]:
        """Lend what has arrived, at most `max` records: `with await s.borrow() as rows: ...`.

        The array lies in the ring, and is read-only. Waits and raises as `read` does. See
        `ringbell.Lent`.
        """
        return await self._lent(self._end._borrow, (max, 0), timeout)

    async def __anext__(self) -> NDArray[Any]:
        if not self._keeps_newest():
            return await super().__anext__()
        rows: NDArray[Any] = await self._next(self._end._read, (None, 0))
        return rows
