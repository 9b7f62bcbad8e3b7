# SPDX-License-Identifier: MIT
"""One request in a device's hands."""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.buffers import as_buffer, still_in_use
from ringbell.errors import RingFull
from ringbell.in_use import in_use

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ringbell._ffi import CData
    from ringbell.device import Device

_complete = lib.rb_complete
_MESSAGE = lib.RB_MESSAGE
_FAILURE = lib.RB_FAILURE


class Request:
    """A request that a device has taken and has to complete or fail, in any order.

    Until then its slots stay in use; the ring goes round only as far as the oldest of them.
    """

    __slots__ = ("_device", "_index", "_memory", "_place", "payload", "token")

    def __init__(
        self,
        device: Device,
        index: int,
        token: int,
        ring: memoryview,
        start: int,
        stop: int,
    ) -> None:
        self._device = device
        self._index = index
        self._place = (ring, start, stop)
        self._memory = memory = ring[start:stop]
        self.token = token
        """The driver's name for the request, 64 bits."""
        self.payload = memoryview(PickleBuffer(memory))  # see buffers.lend
        """Read-only view of the request's bytes, where they lie in shared memory.

        Valid until the request is completed; using it after that raises ValueError. A request
        larger than half the ring was put together in private memory, and this is a view of that."""

    def complete(
        self, payload: ReadableBuffer = b"", timeout: float | None = None, *, ok: bool = True
    ) -> None:
        """Answer with any contiguous buffer, of any size; also with the request's own payload.

        A piece of the payload that is the answer is released with it. A message that was sent
        without a token wants no completion: it is only released.
        Blocks while the interrupt ring is full. With `ok=False` the answer is a failure, see
        `fail`. Raises BufferError while a slice of the payload or an array made from it is alive,
        RuntimeError when the request has been answered before, RingFull after `timeout` seconds
        (the request is still to be completed then), PeerLost when the driver died. If the driver
        closed the channel it wants no answers, and this one is dropped.
        """
        device = self._device
        doorbell, interrupt = device.doorbell, device.interrupt
        if doorbell.inside or interrupt.inside:
            raise in_use(device)
        doorbell.inside = interrupt.inside = True
        try:
            answer = payload if type(payload) is bytes else self._as_answer(payload)
            size = len(answer)
            try:
                self.payload.release()
                self._memory.release()
            except BufferError:
                self._lend_again(self._memory)
                raise still_in_use(f"request {self.token}") from None
            kind = _MESSAGE if ok else _FAILURE
            status = _complete(device.handle, self._index, answer, size, kind)
            if status:
                try:
                    device.answer_slowly(self.token, self._index, status, answer, kind, timeout)
                except RingFull:
                    ring, start, stop = self._place
                    self._memory = ring[start:stop]
                    self._lend_again(self._memory)
                    raise
        finally:
            doorbell.inside = interrupt.inside = False

    def fail(self, text: str, timeout: float | None = None) -> None:
        """Answer that the request cannot be done, and why; the driver gets RequestFailed.

        Otherwise like `complete`.
        """
        self.complete(text.encode(errors="backslashreplace"), timeout, ok=False)

    def lent_before(self, payload: memoryview, memory: memoryview) -> None:
        """Answer for a view that was lent before the request was made, instead of one's own."""
        self.payload, self._memory = payload, memory

    def _as_answer(self, payload: ReadableBuffer) -> CData | bytes:
        if type(payload) is memoryview and payload.obj is self._memory:
            # A piece of the request itself has to end with it.
            answer = bytes(payload)
            payload.release()
            return answer
        return as_buffer(payload)

    def _lend_again(self, memory: memoryview) -> None:
        """Give the user a payload again, if it was released in vain."""
        try:
            len(self.payload)
        except ValueError:
            self.payload = memoryview(PickleBuffer(memory))

    def __repr__(self) -> str:
        return f"<ringbell.Request {self.token}>"
