# SPDX-License-Identifier: MIT
"""`serve`: a device made of one function."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringbell._ends import Request
from ringbell.calls.device import Device
from ringbell.calls.listener import Listener
from ringbell.calls.opening import listen
from ringbell.channel.descriptors import LACKING
from ringbell.errors import CorruptRing, EndOfStream, PeerLost
from ringbell.policy import MAX_POLL, MAX_SHARE, Kick, Moderation, Polling

if TYPE_CHECKING:
    from ringbell._ends import Payload

    Handler = Callable[[memoryview], Payload]

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
    max_message: int | None = None,
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
        max_message=max_message,
    ) as listener:
        serve_on(listener, handler)


def serve_on(listener: Listener, handler: Handler) -> None:
    """Serve on a listener that is there already, for ever; see `serve`."""
    while True:
        try:
            device = listener.accept()
        except OSError as error:
            if error.errno not in LACKING:
                raise
            _log.warning("refused a driver on %s: %s", listener.path, error.strerror)
            continue
        with device:
            _serve_driver(device, handler)


def _serve_driver(device: Device, handler: Handler) -> None:
    try:
        device._serve(handler, _fail)
    except EndOfStream:
        return
    except (PeerLost, CorruptRing) as error:
        _log.warning("%s", error)


def _fail(request: Request, error: Exception) -> None:
    """Answer a request whose handler raised."""
    _log.debug("the handler raised", exc_info=error)
    text = _describe(error)
    try:
        request.fail(text)
    except BufferError:
        # The exception's frames hold the payload.
        error.__traceback__ = None
        del error
        gc.collect()
        request.fail(text)


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, whose text cannot be made"
