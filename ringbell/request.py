# SPDX-License-Identifier: MIT
"""One request in a device's hands."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.buffers import Lender, as_buffer
from ringbell.in_use import in_use

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ringbell._ffi import CData
    from ringbell.device import Device

_complete = lib.rb_complete
_EALREADY = -errno.EALREADY
_MESSAGE = lib.RB_MESSAGE
_FAILURE = lib.RB_FAILURE


class Request(Lender):
    """A request that a device has taken and has to complete or fail, in any order.

    Until then its slots stay in use; the ring goes round only as far as the oldest of them.
    """

    __slots__ = ("_device", "_done", "_frame")

    def __init__(self, device: Device, frame: list[int], copy: bytes | None = None) -> None:
        self._device = device
        self._frame = frame  # index, token, start, stop
        self._done = False
        self._memory = None
        self._view = None if copy is None else memoryview(copy)

    @property
    def token(self) -> int:
        """The driver's name for the request, 64 bits."""
        return self._frame[1]

    @property
    def payload(self) -> memoryview:
        """Read-only view of the request's bytes, where they lie in shared memory.

        Valid until the request is completed; using it after that raises ValueError. A request
        larger than the ring was put together in private memory, and this is a view of that.
        """
        if self._view is not None:
            return self._view
        if self._done:
            raise ValueError(
                f"request {self.token} has been completed, so its payload is gone; "
                "use it, or copy it, before that"
            )
        _, _, start, stop = self._frame
        return self._lend(self._device.doorbell.their_slots, start, stop)

    def complete(self, payload: ReadableBuffer = b"", timeout: float | None = None) -> None:
        """Answer with any contiguous buffer, of any size; also with the request's own payload.

        Blocks while the interrupt ring is full. Raises BufferError while a slice of the payload or
        an array made from it is alive, RuntimeError when the request has been answered before,
        RingFull after `timeout` seconds (the request is still to be completed then), PeerLost when
        the driver died. If it closed the channel it wants no answers: this one is dropped.
        """
        if type(payload) is not bytes:
            if type(payload) is memoryview and payload.obj is self._memory is not None:
                # A piece of the request itself: it has to end with it.
                own = payload
                payload = bytes(own)
                own.release()
            else:
                payload = as_buffer(payload)
        self._answer(payload, _MESSAGE, timeout)

    def fail(self, text: str, timeout: float | None = None) -> None:
        """Answer that the request cannot be done, and why; the driver gets RequestFailed.

        Otherwise like `complete`.
        """
        self._answer(text.encode(errors="backslashreplace"), _FAILURE, timeout)

    def _answer(self, payload: CData | bytes, kind: int, timeout: float | None) -> None:
        device = self._device
        doorbell, interrupt = device.doorbell, device.interrupt
        if doorbell.inside or interrupt.inside:
            raise in_use(device)
        doorbell.inside = interrupt.inside = True
        try:
            if self._view is not None:
                self._take_back()
            index = self._frame[0]
            size = len(payload)
            # Done unless C says otherwise: a signal handler may raise right after the call.
            self._done = True
            status = _complete(device.handle, index, payload, size, kind)
            if status:
                self._done = status == _EALREADY
                device.answer_slowly(self.token, index, status, payload, kind, timeout)
                self._done = True
        finally:
            doorbell.inside = interrupt.inside = False

    def __repr__(self) -> str:
        state = "answered" if self._done else "to be answered"
        return f"<ringbell.Request {self.token}, {state}>"
