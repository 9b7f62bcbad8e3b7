# SPDX-License-Identifier: MIT
"""One consumer for many producers, for tasks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from ringbell.aio.receiving import Receiving
from ringbell.aio.side import Closing, nothing_came
from ringbell.deadlines import seconds_left
from ringbell.errors import RingEmpty

if TYPE_CHECKING:
    import numpy as np

    from ringbell.streams.gather import Gather as BlockingGather
    from ringbell.streams.gathered_producer import GatheredProducer

_Entries = TypeVar("_Entries")


class Gather(Closing, Receiving, Generic[_Entries]):
    """Takes from many producers, who come and go; made by `gather`.

    An asynchronous context manager. `async for producer, rows in gather` gives what has arrived,
    producer after producer, until `close`. The producers have turns, as in `ringbell.gather`. For
    one task at a time: a second one gets RuntimeError. Cancelling a task that waits loses nothing.
    """

    __slots__ = ()

    _end: BlockingGather[_Entries]

    def __init__(
        self,
        gather: BlockingGather[_Entries],
        arrived: Callable[[GatheredProducer], object] | None,
    ) -> None:
        """Take from the producers of `gather`; users call `ringbell.aio.gather`."""
        super().__init__(gather, 0.0)
        gather._arrived = arrived
        if arrived is not None:
            for producer in gather.producers:  # they came while a thread opened it
                arrived(producer)

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._end.path

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of one record; None for messages, and until the first producer has come."""
        return self._end.dtype

    @property
    def producers(self) -> list[GatheredProducer]:
        """The producers that are connected now, in the order of their arrival."""
        return self._end.producers

    async def take(self, timeout: float | None = None) -> tuple[GatheredProducer, _Entries]:
        """Take the next message, or the records that have arrived, and say whose it is.

        Gives what the next step of the loop would give; see the blocking `take`, also for what is
        raised. Waits while there is nothing; other tasks run meanwhile. Raises RuntimeError when
        another task waits here, or in another event loop.
        """
        await self._begin_to_take()
        with suppress(RingEmpty):
            return self._end.take(0)
        if timeout is None:
            return await self._take_later()
        return await self._for(timeout, nothing_came, self._take_later)

    async def _take_later(self) -> tuple[GatheredProducer, _Entries]:
        while True:
            silence = self._end._reception.silence_over()
            if silence is None:
                await self._readable()
            else:
                with suppress(TimeoutError):  # a guest has been silent for too long, and has to go
                    await self._loop.within(seconds_left(silence) or 0, self._readable())
            with suppress(RingEmpty):
                return self._end.take(0)

    def close(self) -> None:
        """Free the name, and close the streams of all producers.

        A task that waits here gets ChannelClosed. Closing twice does nothing.
        """
        self._wake()
        self._end.close()

    def _give_up(self) -> None:
        self._wake()
        self._end._give_up()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[GatheredProducer, _Entries]:
        return await self.take()

    def __repr__(self) -> str:
        return repr(self._end).replace("<ringbell.", "<ringbell.aio.", 1)
