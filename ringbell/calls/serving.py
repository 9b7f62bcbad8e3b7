# SPDX-License-Identifier: MIT
"""`serve`: a device made of one function."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, overload

from ringbell.calls.listener import Listener
from ringbell.calls.server import Server
from ringbell.calls.service import Service
from ringbell.policy import MAX_POLL, MAX_SHARE, Blocks, Kick, Moderation, Polling

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ringbell._types import AnyCodec, Handler, ListenOptions, ObjectHandler


@overload
def serve(
    name: str | os.PathLike[str],
    handler: Handler,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ListenOptions],
) -> None: ...
@overload
def serve(
    name: str | os.PathLike[str],
    handler: ObjectHandler,
    *,
    codec: AnyCodec,
    **options: Unpack[ListenOptions],
) -> None: ...
def serve(
    name: str | os.PathLike[str],
    handler: ObjectHandler,
    *,
    cpu: int | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> None:
    """Listen under `name` and answer every request with `handler(payload)`, for ever.

    The handler gets a read-only view of the request in shared memory. The view is valid until the
    handler returns; to keep bytes, the handler copies them. It returns any buffer. If it raises an
    Exception, the driver gets RequestFailed with the exception's text, and the device goes on. The
    logger "ringbell" gets a warning with the traceback of the first exception from each line of
    code, and then one for the 10th, the 100th, the 1,000th and so on. The device serves all drivers
    that connect, in turn; `Server` says how.

    With a codec the handler gets and returns objects. What it gets is its own: it may keep it and
    change it. A request that cannot be decoded, or an answer that cannot be encoded, counts as an
    exception of the handler.

    Blocks until an exception ends it, such as KeyboardInterrupt (Ctrl-C) or SystemExit, which the
    handler may raise as well. Then a driver with requests in flight gets PeerLost, and any other
    driver EndOfStream. Options and errors are those of `listen`. Also raises TypeError when the
    handler cannot be called, BufferError when the handler kept a view of its payload.
    """
    with Server(
        name,
        handler,
        cpu=cpu,
        polling=polling,
        max_poll=max_poll,
        max_share=max_share,
        kick=kick,
        moderation=moderation,
        max_message=max_message,
        codec=codec,
        blocks=blocks,
    ) as server:
        server.serve_forever()


def serve_on(listener: Listener, handler: ObjectHandler) -> None:
    """Serve on an existing listener, for ever; see `serve`."""
    with Service(listener, handler) as service:
        service.run()
