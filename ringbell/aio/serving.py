# SPDX-License-Identifier: MIT
"""`serve`: a device made of one function, or of one coroutine function, for many drivers."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast, overload

from ringbell import _ends
from ringbell.aio.loop import running_loop
from ringbell.aio.opening import listen
from ringbell.calls.failures import Failures
from ringbell.calls.service import check_handler
from ringbell.channel.descriptors import LACKING
from ringbell.errors import CorruptRing, EndOfStream, PeerLost, RingbellError, RingEmpty, RingFull
from ringbell.policy import Blocks, Kick, Moderation

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from ringbell._ends import Payload
    from ringbell._ends import Request as BlockingRequest
    from ringbell._types import AnyCodec, ObjectHandler
    from ringbell.aio._types import ListenOptions
    from ringbell.aio.device import Device
    from ringbell.aio.listener import Listener
    from ringbell.aio.loop import Future, Loop, Start
    from ringbell.aio.opened import Opening

    Handler = Callable[[memoryview], Payload | Awaitable[Payload]]
    _Answer = Any  # bytes, or Parts that the codec made

_log = logging.getLogger("ringbell")

_TURN = 64
"""Requests of one driver that are answered before the other tasks have their turn."""
_LONGEST_TURN = 0.001
"""Seconds that a device with `max_poll` goes on to answer one driver, if it has to look for it."""


@overload
async def serve(
    name: str | os.PathLike[str],
    handler: Handler,
    *,
    codec: Literal["bytes"] = ...,
    **options: Unpack[ListenOptions],
) -> None: ...
@overload
async def serve(
    name: str | os.PathLike[str],
    handler: ObjectHandler,
    *,
    codec: AnyCodec,
    **options: Unpack[ListenOptions],
) -> None: ...
async def serve(
    name: str | os.PathLike[str],
    handler: ObjectHandler,
    *,
    cpu: int | None = None,
    max_poll: float = 0.0,
    kick: Kick = "asleep",
    moderation: Moderation | None = None,
    max_message: int | None = None,
    codec: AnyCodec = "bytes",
    blocks: Blocks | None = None,
) -> None:
    """Listen under `name` and answer every request with `handler(payload)`, for ever.

    Serves all drivers that connect, at once. The handler is a function, or a coroutine function:
    then many requests are in work at once, and each is answered when its handler is done. The
    payload is a read-only view of the request in shared memory, valid until the handler is done. A
    request keeps its slots until then, so the size of the ring bounds how many are in work.

    If the handler raises an Exception, or waited for something that was cancelled, the driver gets
    RequestFailed, as with `ringbell.serve`. A handler that is a function holds up the loop while it
    runs.

    Ends when it is cancelled, or by what is no Exception in a handler, such as SystemExit. Then a
    driver with requests in flight gets PeerLost, and any other driver EndOfStream. Options and
    errors are those of `listen`. Also raises TypeError when the handler cannot be called,
    BufferError when the handler kept a view of its payload.
    """
    check_handler(handler)
    opening: Opening[Listener] = cast("Any", listen)(
        name,
        cpu=cpu,
        max_poll=max_poll,
        kick=kick,
        moderation=moderation,
        max_message=max_message,
        codec=codec,
        blocks=blocks,
    )
    async with opening as listener:
        await serve_on(listener, handler)


async def serve_on(listener: Listener, handler: ObjectHandler) -> None:
    """Serve on an existing listener, for ever; see `serve`."""
    failures = Failures()
    loop = running_loop()
    # A task that is cancelled before it begins does nothing, so the devices are kept here.
    served: set[Device] = set()
    try:
        async with loop.tasks() as start:
            while True:
                device = await _accept(listener)
                if device is not None:
                    served.add(device)
                    start(_serve_driver, _Serving(loop, device, handler, failures, start), served)
    except BaseExceptionGroup as group:
        # The groups are those of the tasks, which nobody outside knows of.
        raise _first_of(group) from None
    finally:
        for device in served:
            # A driver that waits for an answer must get PeerLost, not EndOfStream.
            if device._device._idle():
                device.close()
            device._give_up()  # does nothing if it has been closed


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _accept(listener: Listener) -> Device | None:
    try:
        return await listener.accept()
    except OSError as error:
        if error.errno not in LACKING:
            raise
        _log.warning("refused a driver on %s: %s", listener.path, error.strerror)
        return None


async def _serve_driver(serving: _Serving, served: set[Device]) -> None:
    device = serving.device
    try:
        await serving.run()
    except EndOfStream:
        device.close()
    except (PeerLost, CorruptRing) as error:
        device.close()
        _log.warning("%s", error)
    served.discard(device)


class _Serving:
    """Answers one driver.

    The loop calls back when there is a request, and the callback answers those that a function
    answers. So no task has to be woken for them.
    """

    __slots__ = (
        "_codec",
        "_failures",
        "_fd",
        "_handler",
        "_in_work",
        "_looks",
        "_loop",
        "_over",
        "_start",
        "_take",
        "_watched",
        "_why",
        "device",
    )

    def __init__(
        self, loop: Loop, device: Device, handler: ObjectHandler, failures: Failures, start: Start
    ) -> None:
        self._loop = loop
        self.device: Device = device
        self._handler = handler
        self._failures = failures
        self._codec = device._device._channel.codec
        self._start = start
        self._fd = device._fd
        self._take = device._device._take
        self._looks = device._looks
        self._watched = False
        self._in_work = 0  # requests whose answers are still to come or to be sent
        self._why: BaseException | None = None  # no further request comes
        self._over: Future[None] = loop.future()

    async def run(self) -> None:
        """Serve until the driver leaves; raises EndOfStream or PeerLost then."""
        self._go_on()
        try:
            await self._over
        finally:
            self._stop_watching()

    def _go_on(self) -> None:
        if not self._watched and self._why is None:
            self._watched = True
            self._loop.watch(self._fd, self._serve_some)

    def _stop_watching(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.unwatch(self._fd)

    def _end(self, why: BaseException) -> None:
        self._stop_watching()
        if self._why is None:
            self._why = why
        # Handlers at work end their work, unless something is wrong on this side.
        if not self._over.done() and not (
            self._in_work and isinstance(why, EndOfStream | PeerLost)
        ):
            self._over.set_exception(why)

    # ---- requests ----

    def _serve_some(self) -> None:
        try:
            if self._looks.may_look:
                self._serve_and_look()
            else:
                for _ in range(_TURN):
                    self._serve(self._take[0])
                    if not self._watched:
                        return
        except RingEmpty:
            return
        except RuntimeError as error:
            if self._in_work:
                self._stop_watching()  # they hold every slot; the next answer goes on
            else:
                self._end(error)
        except BaseException as error:
            self._end(error)

    def _serve_and_look(self) -> None:
        over = time.monotonic() + _LONGEST_TURN
        while self._watched and self._looks.look(self.device._end):
            self._serve(self._take[0])
            if time.monotonic() > over:
                return

    def _serve(self, request: BlockingRequest) -> None:
        try:
            result: Any = self._handler(request.payload)
        except BaseException as error:
            answer, ok = self._answer_of_raised(error), False
        else:
            if type(result) is not bytes and isawaitable(result):
                self._begin(self._answer_later, request, result)
                return
            answer, ok = self._answer_of(result)
            del result  # it may lie in the payload
        self._reply(request, answer, ok)

    def _begin(self, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401
        self._in_work += 1
        self._start(function, *arguments)

    async def _answer_later(self, request: BlockingRequest, result: Awaitable[Any]) -> None:
        try:
            answer, ok = self._answer_of(await result)
        except BaseException as error:
            answer, ok = self._answer_of_raised(error), False
        del result  # its frame may use the payload
        await self._reply_later(request, answer, ok)

    def _one_less(self) -> None:
        self._in_work -= 1
        if self._why is None:
            if self.device._sending.is_free:
                self._go_on()
        elif not self._in_work and not self._over.done():
            self._over.set_exception(self._why)

    # ---- answers ----

    def _answer_of(self, result: object) -> tuple[_Answer, bool]:
        """Give a copy, as the result may lie in the request; or why it is no answer."""
        try:
            if self._codec:
                return self._codec.prepared(result), True
            return _ends.octets_of(result), True
        except Exception as error:
            return self._answer_of_failure(error.with_traceback(None)), False  # nobody's line

    def _answer_of_raised(self, error: BaseException) -> bytes:
        """Say what the handler raised; raise it again if it ends the serving."""
        if isinstance(error, Exception):
            return self._answer_of_failure(error)
        if not self._loop.is_of_another(error):
            raise error
        failure = RuntimeError("the handler waited for something that was cancelled")
        return self._answer_of_failure(failure.with_traceback(error.__traceback__))

    def _answer_of_failure(self, error: Exception) -> bytes:
        return self._failures.text_of(error).encode(errors="backslashreplace")

    def _reply(self, request: BlockingRequest, answer: _Answer, ok: bool) -> None:
        """Answer at once, or have a task wait for room."""
        if self.device._sending.is_free:
            try:
                _complete(request, answer, ok, 0)
            except RingFull:
                pass
            else:
                return
        self._stop_watching()
        self._begin(self._reply_later, request, answer, ok)

    async def _reply_later(self, request: BlockingRequest, answer: _Answer, ok: bool) -> None:
        if isinstance(answer, _ends.Parts):
            # What it is made of may change while it waits.
            answer = _ends.Parts([_ends.octets_of(answer)])
        try:
            await self.device._sending.run(
                lambda timeout: _complete(request, answer, ok, timeout), answer
            )
        except RingFull:
            raise
        except RingbellError:
            pass  # the next look for a request says so
        self._one_less()


def _complete(request: BlockingRequest, answer: _Answer, ok: bool, timeout: float | None) -> None:
    try:
        request.complete(answer, timeout, ok=ok)
    except BufferError:
        if ok:
            raise
        gc.collect()  # the error may refer to itself, and so to the payload
        request.complete(answer, timeout, ok=ok)
