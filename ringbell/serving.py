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
from ringbell.device import Device
from ringbell.errors import EndOfStream, LayoutMismatch, PeerLost
from ringbell.listener import Listener
from ringbell.meeting import listen
from ringbell.policy import MAX_POLL, Kick, Polling
from ringbell.request import Request

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
    kick: Kick = "asleep",
) -> None:
    """Listen under `name` and answer every request with `handler(payload)`, for ever.

    The handler gets a read-only view of the request where it lies in shared memory, valid until
    the handler returns; it copies what it wants to keep. It returns any buffer. If it raises, the
    driver gets RequestFailed with the exception's text and the device goes on. Drivers are served
    one after the other; when one closes or dies, the next one is accepted.

    Blocks until an exception ends it, such as KeyboardInterrupt. Options and errors are those of
    `listen`; BufferError when the handler kept a view of its payload.
    """
    with listen(name, cpu=cpu, polling=polling, max_poll=max_poll, kick=kick) as listener:
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
            _answer(request, *_try(handler, request.payload))
    except EndOfStream:
        return
    except PeerLost as error:
        _log.warning("%s", error)


def _serve_plain_requests(device: Device, handler: Handler) -> None:
    """Serve in as few steps as possible, until something comes that is not plain.

    Plain is a request that is there, whole, and answered with bytes for which there is room. When
    this returns, `device.take` waits for the next one or deals with what it is; a frame that was
    not taken in hand is given again.
    """
    handle, doorbell, frame = device.handle, device.doorbell, device.frame_words
    slots = doorbell.their_slots
    while _take(handle, doorbell.taken, _BY_POLICY) == 0:
        index, token, start, stop = frame.tolist()
        memory = slots[start:stop]
        payload = memoryview(PickleBuffer(memory))  # see buffers.lend
        doorbell.taken += 1
        failure = None
        try:
            answer = handler(payload)
        except Exception as error:
            answer, failure = b"", _failure(error)
        if failure is None and type(answer) is bytes:
            try:
                payload.release()
                memory.release()
            except BufferError:
                pass  # request.complete will say what is wrong
            else:
                if _complete(handle, index, answer, len(answer), _MESSAGE) == 0:
                    continue
        _answer(Request(device, index, token, payload, memory), answer, failure)


def _try(handler: Handler, payload: memoryview) -> tuple[ReadableBuffer, str | None]:
    """Return the handler's answer, or why there is none."""
    try:
        return handler(payload), None
    except Exception as error:
        return b"", _failure(error)


def _failure(error: Exception) -> str:
    _log.debug("the handler raised", exc_info=error)
    return f"{type(error).__name__}: {error}"


def _answer(request: Request, answer: ReadableBuffer, failure: str | None) -> None:
    if failure is None:
        try:
            # Copied, so that the answer may be a view of the request, which is about to end.
            answer = bytes(memoryview(answer))
        except TypeError:
            failure = (
                f"TypeError: the handler returned {type(answer).__name__}; "
                "return bytes or another buffer"
            )
    if failure is None:
        request.complete(answer)
        return
    try:
        request.fail(failure)
    except BufferError:
        gc.collect()  # the exception's frames hold the payload, in a reference cycle
        request.fail(failure)
