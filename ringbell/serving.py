# SPDX-License-Identifier: MIT
"""`serve`: a device made of one function."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringbell.device import Device
from ringbell.errors import LayoutMismatch, PeerLost
from ringbell.listener import Listener
from ringbell.meeting import listen
from ringbell.policy import MAX_POLL, Kick, Polling
from ringbell.request import Request

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    Handler = Callable[[memoryview], ReadableBuffer]

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
        for request in device:
            _serve_request(request, handler)
    except PeerLost as error:
        _log.warning("%s", error)


def _serve_request(request: Request, handler: Handler) -> None:
    try:
        answer = handler(request.payload)
        if type(answer) is not bytes:
            answer = _copy(answer)
    except Exception as error:
        _log.debug("the handler raised", exc_info=True)
        failure = f"{type(error).__name__}: {error}"
    else:
        request.complete(answer)
        return
    # After the except block, because the exception's frames hold views of the payload.
    try:
        request.fail(failure)
    except BufferError:
        gc.collect()  # frames in a reference cycle
        request.fail(failure)


def _copy(answer: ReadableBuffer) -> bytes:
    try:
        # Copied, so that the answer may be a view of the request, which is about to end.
        return bytes(memoryview(answer))
    except TypeError:
        raise TypeError(
            f"the handler returned {type(answer).__name__}; return bytes or another buffer"
        ) from None
