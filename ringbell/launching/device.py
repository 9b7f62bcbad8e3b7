# SPDX-License-Identifier: MIT
"""`launch`: a device in a new process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ringbell._ffi import lib
from ringbell.calls.opening import connect, listen
from ringbell.calls.service import check_handler, serve_driver
from ringbell.codecs import codec_from
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import EndOfStream, PeerLost
from ringbell.launching.inside import Inside
from ringbell.launching.names import private_path
from ringbell.launching.parcel import Parcel
from ringbell.launching.worker import StartMethod, Worker
from ringbell.meeting.segment import RING_SIZE, Memory
from ringbell.policy import MAX_POLL, MAX_SHARE, Blocks, Kick, Moderation, Policy, Polling

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ringbell._types import (
        AnyCodec,
        Handler,
        LaunchOptions,
        ObjectCodec,
        ObjectDriver,
        ObjectHandler,
    )
    from ringbell.calls.driver import Driver

_SOON = 0.5  # seconds, in which a process that ends says how

_log = logging.getLogger("ringbell")


@overload
def launch(
    handler: Handler | str,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[LaunchOptions],
) -> contextlib.AbstractContextManager[Driver]: ...
@overload
def launch(
    handler: ObjectHandler | str,
    *,
    codec: ObjectCodec,
    **options: Unpack[LaunchOptions],
) -> contextlib.AbstractContextManager[ObjectDriver]: ...
@contextlib.contextmanager
def launch(
    handler: ObjectHandler | str,
    *,
    cpu: int | None = None,
    start_method: StartMethod = "spawn",
    timeout: float | None = None,
    ring_size: int = RING_SIZE,
    memory: Memory | None = None,
    polling: Polling = "adaptive",
    max_poll: float = MAX_POLL,
    max_share: float = MAX_SHARE,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> Iterator[Any]:
    """Start a process that answers requests with `handler`, and give a driver for it.

    `with ringbell.launch(handler, cpu=1) as driver: driver.call(b"...")`. The handler is called as
    in `serve`. It is a function, or its name `"module:function"`, which the new process imports.
    Blocks until the device is there. A script does this below `if __name__ == "__main__":`, because
    a new process imports the script.

    The end of the block waits until the device has answered what was sent, and has ended. If an
    exception leaves the block (Ctrl-C is one), the device is ended at once: with SIGTERM, which
    raises SystemExit there, and with SIGKILL two seconds later. Ctrl-C itself does nothing in the
    device. If this process ends, however that happens, the kernel kills the device.

    What the device logs goes where this process's logs go. If the device dies, the driver gets
    PeerLost, and if that leaves the block, a note below it says how the device ended. Options:

    - `cpu`: pins the device to this CPU. The driver's thread is not pinned.
    - `start_method`: `"spawn"`, `"fork"` or `"forkserver"`, as in `multiprocessing`. With `"fork"`
      the handler may be any function, such as a lambda. Do not fork a process that has threads.
    - `timeout`: seconds to wait until the device is there, None for ever.
    - the others are those of `connect`, for both sides. The functions of a `codec` have to be ones
      that a new process can import, except with `"fork"`.

    Raises TypeError when the handler cannot be sent to a new process, ValueError when it cannot be
    imported there, and for bad options; RuntimeError when the process ended before it was ready;
    TimeoutError; and what `connect` raises. A note below an error of the new process shows its
    traceback.
    """
    policy: dict[str, Any] = {
        "polling": polling,
        "max_poll": max_poll,
        "max_share": max_share,
        "kick": kick,
        "moderation": moderation,
        "max_message": max_message,
        "codec": codec_from(codec),
        "blocks": blocks,
    }
    Policy(**policy)  # raises if they are wrong, before there is a process
    deadline = deadline_after(timeout)
    path, parcel = private_path("device"), Parcel("handler", handler)
    with Worker(
        "device", serve_parent, parcel, start_method, path=path, cpu=cpu, **for_child(policy)
    ) as device:
        device.wait_until_ready(deadline)
        device.hear_on()
        left = seconds_left(deadline)
        with meet(
            device, path, ring_size=ring_size, memory=memory, timeout=left, **policy
        ) as driver:
            try:
                yield driver
            except BaseException as error:
                # It may be the error of another driver, whose device this one has no part in.
                lost = isinstance(error, (PeerLost, EndOfStream)) and _has_gone(driver)
                if lost and (why := device.trouble()):
                    error.add_note(why)
                device.stop()  # before the driver goes: the device would warn of that
                raise
    if why := device.trouble():
        _log.warning("%s", why)


def meet(process: Worker, path: Path, **options: Any) -> Driver:  # noqa: ANN401
    """Connect to a process that is ready. Raises PeerLost, which says how, if it ended meanwhile.

    Raises what `connect` raises, too.
    """
    try:
        driver: Driver = connect(path, **options)
    except (ConnectionRefusedError, PeerLost) as error:
        # It may live, and have refused.
        if process.trouble(_SOON) and (how := process.failure()):
            raise how from error
        raise
    return driver


def _has_gone(driver: Driver) -> bool:
    """Whether no room will come any more."""
    return lib.rb_wait_poll(driver._channel.handle, lib.RB_SPACE, 0) < 0


def for_child(policy: dict[str, Any]) -> dict[str, Any]:
    """Give the options of `serve_parent` for what are those of `connect` on this side."""
    return {**policy, "codec": Parcel("codec", policy["codec"])}


def serve_parent(
    inside: Inside,
    handler: Callable[..., Any],
    path: Path,
    codec: Parcel | None = None,
    **options: Any,  # noqa: ANN401
) -> None:
    """Serve one driver; in the new process."""
    check_handler(handler)
    opened: Any = codec.open() if codec else None
    # Twice, because a SIGTERM may end the first `close` before it has freed the name.
    with listen(path, codec=opened, **options) as listener, listener:
        inside.ready()
        device = listener.accept()
    inside.has_met()
    serve_driver(device, handler)
