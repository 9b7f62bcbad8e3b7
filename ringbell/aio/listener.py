# SPDX-License-Identifier: MIT
"""Where a device waits for drivers, for tasks."""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ringbell.aio.device import Device
from ringbell.aio.side import Closing, OfLoop
from ringbell.aio.threads import meet

if TYPE_CHECKING:
    from ringbell.aio.loop import Future
    from ringbell.calls.device import Device as BlockingDevice
    from ringbell.calls.listener import Listener as BlockingListener


class Listener(Closing, OfLoop):
    """Listens under a name; made by `listen`. The end of its `async with` block frees the name."""

    __slots__ = ("_accepted", "_listener", "_max_poll", "_waiting")

    def __init__(self, listener: BlockingListener, max_poll: float) -> None:
        """Accept drivers of `listener`; users call `listen`."""
        super().__init__()
        self._listener = listener
        self._max_poll = max_poll
        # By calls that were cancelled meanwhile.
        self._accepted: deque[BlockingDevice] = deque()
        self._waiting: deque[Future[BlockingDevice]] = deque()

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._listener.path

    async def accept(self, timeout: float | None = None) -> Device:
        """Wait for a driver and open the channel that it brings.

        Waits while none comes; other tasks run meanwhile. Raises what the blocking `accept` raises.
        Cancelling loses no driver: the next `accept` gives one that came meanwhile.
        """
        return Device(await self._accept(timeout), self._max_poll)

    async def _accept(self, timeout: float | None) -> BlockingDevice:
        self._check_loop()
        if self._accepted:
            return self._accepted.popleft()
        future: Future[BlockingDevice] = self._loop.future()
        self._waiting.append(future)
        try:
            accept = partial(self._listener.accept, timeout)
            return await meet(self._loop, future, accept, self._keep)
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _keep(self, device: BlockingDevice) -> None:
        """Give a device whose call was cancelled to another call, or keep it for the next one."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(device)
                return
        if self._listener._reception.listens:
            self._accepted.append(device)
        else:
            device.close()

    def close(self) -> None:
        """Stop listening and free the name. Channels that were accepted live on.

        An `accept` that waits ends with ChannelClosed. Closing twice does nothing.
        """
        self._listener.close()
        while self._accepted:
            self._accepted.popleft().close()

    def __repr__(self) -> str:
        return repr(self._listener).replace("<ringbell.", "<ringbell.aio.", 1)
