# SPDX-License-Identifier: MIT
"""The side that takes requests and answers them, for tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ringbell._ffi import lib
from ringbell.aio.receiving import Receiving
from ringbell.aio.room import Sending, sleep_for
from ringbell.aio.side import Closing, no_room
from ringbell.codecs import prepared
from ringbell.errors import EndOfStream

if TYPE_CHECKING:
    from ringbell._ends import Payload
    from ringbell._ends import Request as BlockingRequest
    from ringbell.calls.device import Device as BlockingDevice
    from ringbell.stats import Stats


class Device(Closing, Receiving):
    """Takes requests; made by `Listener.accept`. An asynchronous context manager.

    `async for request in device` takes one request after the other until the driver closes. It
    raises PeerLost when the driver dies. One task at a time takes; any task may complete. If an
    exception leaves the block, the driver gets PeerLost.
    """

    __slots__ = ("_device", "_sending")

    def __init__(self, device: BlockingDevice, max_poll: float) -> None:
        """Serve a channel that has been opened; users call `Listener.accept`."""
        super().__init__(device.doorbell, max_poll)
        self._device = device
        longest = device.interrupt.max_payload // 2
        self._sending = Sending(self._loop, self._sleep, longest)

    async def take(self, timeout: float | None = None) -> Request:
        """Take the next request.

        Waits while there is none; other tasks run meanwhile. Raises what the blocking `take`
        raises, and RuntimeError when another task takes, or in another event loop.
        """
        return Request(self, await self._taken(self._device._take, 0, timeout))

    def stats(self) -> Stats:
        """Read the four indices and the counters of both sides; also possible after close."""
        return self._device.stats()

    def close(self) -> None:
        """Say goodbye. A task that waits here gets ChannelClosed. Closing twice does nothing."""
        self._wake()
        self._device.close()

    def _give_up(self) -> None:
        self._wake()
        self._device._give_up()

    def _sleep(self) -> None:
        """Sleep until there is room, inside of the end that answers."""
        interrupt = self._device.interrupt
        interrupt._guarded(sleep_for, interrupt._channel, lib.RB_SPACE)

    async def _complete(
        self,
        request: BlockingRequest,
        payload: Any,  # noqa: ANN401  (with a codec it may be anything)
        timeout: float | None,
        ok: bool,
    ) -> None:
        self._check_loop()
        if ok:
            payload = prepared(self._device._channel.codec, payload)

        def attempt(patience: float | None) -> None:
            request.complete(payload, patience, ok=ok)

        await self._for(timeout, no_room, lambda: self._sending.run(attempt, payload))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        try:
            return await self.take()
        except EndOfStream:
            raise StopAsyncIteration from None

    def __repr__(self) -> str:
        return repr(self._device).replace("<ringbell.", "<ringbell.aio.", 1)


class Request:
    """A request that a device has taken and has to complete or fail, in any order.

    Its slots stay in use until then, so only what fits into the rest of the ring can arrive.
    """

    __slots__ = ("_device", "_request")

    def __init__(self, device: Device, request: BlockingRequest) -> None:
        """Belong to `device`; users call `Device.take`."""
        self._device = device
        self._request = request

    @property
    def token(self) -> int:
        """The driver's name for the request, 64 bits."""
        return self._request.token

    @property
    def payload(self) -> memoryview:
        """Read-only view of the request's bytes, valid until the request is completed."""
        return self._request.payload

    def hold(self) -> bytes | memoryview:
        """Give the payload to be kept for as long as you want, also after the completion.

        A view of the block that it lies in, or a copy; see `ringbell.Request.hold`.
        """
        return self._request.hold()

    async def complete(self, payload: Payload = b"", timeout: float | None = None) -> None:
        """Answer with any contiguous buffer, of any size; the request's own payload will do.

        Waits while the ring of the answers is full. Raises what the blocking `complete` raises.
        """
        await self._device._complete(self._request, payload, timeout, True)

    async def fail(self, text: str, timeout: float | None = None) -> None:
        """Answer that the request cannot be done, and why; the driver gets RequestFailed.

        Otherwise like `complete`.
        """
        octets = text.encode(errors="backslashreplace")
        await self._device._complete(self._request, octets, timeout, False)
