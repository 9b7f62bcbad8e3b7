# SPDX-License-Identifier: MIT
"""Where a device waits for drivers, for tasks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ringbell.aio.device import Device
from ringbell.aio.receiving import Receiving
from ringbell.aio.side import Closing

if TYPE_CHECKING:
    from ringbell.calls.listener import Listener as BlockingListener


class Listener(Closing, Receiving):
    """Listens under a name; made by `listen`. The end of its `async with` block frees the name."""

    __slots__ = ("_max_poll",)

    _end: BlockingListener

    def __init__(self, listener: BlockingListener, max_poll: float) -> None:
        """Accept drivers of `listener`; users call `listen`."""
        super().__init__(listener, 0.0)
        self._max_poll = max_poll

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._end.path

    async def accept(self, timeout: float | None = None) -> Device:
        """Wait for a driver and open the channel that it brings.

        Waits while none comes; other tasks run meanwhile. Raises what the blocking `accept` raises,
        and RuntimeError when another task waits here, or in another event loop. Cancelling loses no
        driver.
        """
        await self._begin_to_take()
        with suppress(TimeoutError):
            return self._accept_now()
        if timeout is None:
            return await self._accept_later()
        return await self._for(timeout, self._nobody_came, self._accept_later)

    async def _accept_later(self) -> Device:
        while True:
            await self._readable()
            with suppress(TimeoutError):  # a guest who is no driver, or has not spoken yet
                return self._accept_now()

    def _accept_now(self) -> Device:
        return Device(self._end.accept(timeout=0), self._max_poll)

    def _nobody_came(self) -> TimeoutError:
        return TimeoutError(f"nobody connected to {self.path} within the timeout")

    def close(self) -> None:
        """Stop listening and free the name. Channels that were accepted live on.

        An `accept` that waits ends with ChannelClosed. Closing twice does nothing.
        """
        self._wake()
        self._end.close()

    def __repr__(self) -> str:
        return repr(self._end).replace("<ringbell.", "<ringbell.aio.", 1)
