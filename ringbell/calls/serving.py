# SPDX-License-Identifier: MIT
"""`serve`: a device made of one function."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from ringbell.arguments import shown
from ringbell.calls.device import Device
from ringbell.calls.failures import Failures
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

    The handler gets a read-only view of the request in shared memory. The view is valid until the
    handler returns; to keep bytes, the handler copies them. It returns any buffer. If it raises an
    Exception, the driver gets RequestFailed with the exception's text, and the device goes on. The
    logger "ringbell" gets a warning with the traceback of the first exception from each line of
    code, and then one for the 10th, the 100th, the 1,000th and so on. The device serves one driver
    after the other: when a driver closes or dies, it accepts the next one.

    Blocks until an exception ends it, such as KeyboardInterrupt (Ctrl-C) or SystemExit, which the
    handler may raise as well. Then a driver with requests in flight gets PeerLost, and any other
    driver EndOfStream. Options and errors are those of `listen`. Also raises TypeError when the
    handler cannot be called, BufferError when the handler kept a view of its payload.
    """
    check_handler(handler)
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


def check_handler(handler: Handler) -> None:
    """Raise TypeError if the handler cannot be called, before any driver connects."""
    if not callable(handler):
        raise TypeError(
            "the handler is a function that takes a request's payload and returns the answer, not "
            f"{shown(handler)}"
        )


def serve_on(listener: Listener, handler: Handler) -> None:
    """Serve on an existing listener, for ever; see `serve`."""
    check_handler(handler)
    failures = Failures()
    while True:
        try:
            device = listener.accept()
        except OSError as error:
            if error.errno not in LACKING:
                raise
            _log.warning("refused a driver on %s: %s", listener.path, error.strerror)
            continue
        _serve_driver(device, handler, failures)


def _serve_driver(device: Device, handler: Handler, failures: Failures) -> None:
    try:
        device._serve(handler, failures.text_of)
    except EndOfStream:
        device.close()
    except (PeerLost, CorruptRing) as error:
        device.close()
        _log.warning("%s", error)
    except BaseException:
        # This device ends. A driver that waits for an answer must get PeerLost, not EndOfStream.
        if device._idle():
            device.close()
        raise
    finally:
        device._give_up()  # does nothing if it has been closed
