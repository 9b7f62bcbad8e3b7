# SPDX-License-Identifier: MIT
"""One device for many drivers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast, overload

from ringbell.calls.opening import listen
from ringbell.calls.service import ServedDriver, Service, check_handler
from ringbell.channel.closing import Closing
from ringbell.policy import MAX_POLL, MAX_SHARE, Blocks, Kick, Moderation, Polling

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ringbell._types import AnyCodec, Handler, ObjectHandler, ServerOptions
    from ringbell.calls.listener import Listener


class Server(Closing):
    """A device for many drivers at once, in the manner of `socketserver`; a context manager.

    with ringbell.Server("sha256", handler) as server:
        server.serve_forever()

    One thread answers all drivers: it takes up to 32 requests of a driver, then those of the next.
    It never waits for a driver. An answer for which the ring has no room goes out later, and until
    then only that driver's further requests wait. A handler that takes long keeps all drivers
    waiting. The end of the block closes all channels and frees the name.
    """

    __slots__ = ("_listener", "_service")

    @overload
    def __init__(
        self,
        name: str | os.PathLike[str],
        handler: Handler,
        *,
        codec: Literal["bytes"] = ...,
        **options: Unpack[ServerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str | os.PathLike[str],
        handler: ObjectHandler,
        *,
        codec: AnyCodec,
        **options: Unpack[ServerOptions],
    ) -> None: ...
    def __init__(
        self,
        name: str | os.PathLike[str],
        handler: ObjectHandler,
        *,
        arrived: Callable[[ServedDriver], object] | None = None,
        left: Callable[[ServedDriver], object] | None = None,
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
        """Listen under `name`; `serve_forever` answers.

        `handler` is that of `serve`. The server calls `arrived` with each driver that has
        connected, and `left` when that driver has gone or is closed; an exception of these two
        ends `serve_forever`. The other options are those of `connect`, for this side. Raises what
        `listen` raises, and TypeError when the handler cannot be called.
        """
        check_handler(handler)
        listener: Listener = cast("Any", listen)(
            name,
            cpu=cpu,
            polling=polling,
            max_poll=max_poll,
            max_share=max_share,
            kick=kick,
            moderation=moderation,
            max_message=max_message,
            codec=codec,
            blocks=blocks,
        )
        self._listener = listener
        try:
            self._service = Service(listener, handler, arrived, left)
        except BaseException:
            listener.close()
            raise

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._listener.path

    @property
    def drivers(self) -> list[ServedDriver]:
        """The drivers that are connected now, in the order of their arrival."""
        return self._service.drivers

    def serve_forever(self) -> None:
        """Answer every request with the handler, until `shutdown` or an exception.

        What ends `serve` ends this as well. Raises ChannelClosed when `close` ends it, RuntimeError
        when it runs already. After `shutdown` it may be called again.
        """
        self._service.run()

    def shutdown(self) -> None:
        """Have `serve_forever` return after the requests in hand, and keep the channels open.

        Returns at once. Any thread, any signal handler and the handler itself may call it. If
        `serve_forever` does not run, its next call returns at once.
        """
        self._service.stop()

    def close(self) -> None:
        """Free the name, and close the channels of all drivers.

        A driver with requests in flight gets PeerLost, any other one EndOfStream. Any thread and
        any signal handler may close; `serve_forever` then ends with ChannelClosed. Closing twice
        does nothing.
        """
        self._service.close()
        self._listener.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Server cannot be copied or pickled: its channels are this process's; make another "
            "one, under another name"
        )

    def __repr__(self) -> str:
        return f"<ringbell.Server {self.path}, {len(self.drivers)} drivers>"
