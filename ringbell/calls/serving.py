# SPDX-License-Identifier: MIT
"""`serve`: a device made of one function."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from pickle import PickleBuffer
from typing import TYPE_CHECKING

from ringbell._ffi import lib
from ringbell.calls.device import Device, Request
from ringbell.calls.listener import Listener
from ringbell.calls.opening import listen
from ringbell.errors import CorruptRing, EndOfStream, LayoutMismatch, PeerLost
from ringbell.policy import MAX_POLL, MAX_SHARE, Kick, Moderation, Polling

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    Handler = Callable[[memoryview], ReadableBuffer]

_take = lib.rb_take
_complete = lib.rb_complete
_MESSAGE = lib.RB_MESSAGE
_BY_POLICY = -1
_log = logging.getLogger("ringbell")


def serve(
    name: str | os.PathLike[str],
    handler: Handler,
    *,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
) -> None:
    """Listen under `name` and answer every request with `handler(payload)`, for ever.

    The handler gets a read-only view of the request where it lies in shared memory, valid until
    the handler returns; it copies what it wants to keep. It returns any buffer. If it raises, the
    driver gets RequestFailed with the exception's text and the device goes on. Drivers are served
    one after the other; when one closes or dies, the next one is accepted.

    Blocks until an exception ends it, such as KeyboardInterrupt. Options and errors are those of
    `listen`; BufferError when the handler kept a view of its payload.
    """
    with listen(
        name,
        cpu=cpu,
        polling=polling,
        max_poll=max_poll,
        max_share=max_share,
        kick=kick,
        moderation=moderation,
    ) as listener:
        serve_on(listener, handler)


def serve_on(listener: Listener, handler: Handler) -> None:
    """Serve on a listener that is there already, for ever; see `serve`."""
    while True:
        try:
            device = listener.accept()
        except LayoutMismatch as error:
            _log.warning("refused a driver on %s: %s", listener.path, error)
            continue
        with device:
            _serve_driver(device, handler)


def _serve_driver(device: Device, handler: Handler) -> None:
    try:
        while True:
            _serve_plain_requests(device, handler)
            request = device.take()
            answer, failure = b"", None
            try:
                answer = _as_bytes(handler(request.payload))
            except Exception as error:
                failure = _describe(error)
            _answer(request, answer, failure)
    except EndOfStream:
        return
    except (PeerLost, CorruptRing) as error:
        _log.warning("%s", error)


def _serve_plain_requests(device: Device, handler: Handler) -> None:
    """Serve in as few steps as possible, until something comes that is not plain.

    Plain is a request that is there, whole, and answered while there is room. When this returns,
    `device.take` waits for the next one or deals with what it is; a frame that was not taken in
    hand is given again.
    """
    handle, doorbell, frame = device.handle, device.doorbell, device.frame_words
    slots = doorbell.their_slots
    while not doorbell.whole and _take(handle, doorbell.taken, _BY_POLICY) == 0:
        index, token, start, stop = frame.tolist()
        memory = slots[start:stop]
        payload = memoryview(PickleBuffer(memory))  # see buffers.lend
        doorbell.taken += 1
        answer, failure = b"", None
        try:
            result = handler(payload)
            # Copied, so that it may be a view of the request, which is about to end.
            answer = result if type(result) is bytes else _as_bytes(result)
        except Exception as error:
            failure = _describe(error)
        result = b""
        if failure is None:
            try:
                payload.release()
                memory.release()
            except BufferError:
                pass  # request.complete will say what is wrong
            else:
                if _complete(handle, index, answer, len(answer), _MESSAGE) == 0:
                    continue
        request = Request(device, index, token, slots, start, stop)
        request.lent_before(payload, memory)
        _answer(request, answer, failure)


def _describe(error: Exception) -> str:
    _log.debug("the handler raised", exc_info=error)
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, whose text cannot be made"


def _as_bytes(result: ReadableBuffer) -> bytes:
    try:
        view = memoryview(result)
    except TypeError:
        raise TypeError(
            f"the handler returned {type(result).__name__}; return bytes or another buffer"
        ) from None
    return bytes(view)


def _answer(request: Request, answer: bytes, failure: str | None) -> None:
    if failure is None:
        request.complete(answer)
        return
    try:
        request.fail(failure)
    except BufferError:
        gc.collect()  # the exception's frames hold the payload, in a reference cycle
        request.fail(failure)
