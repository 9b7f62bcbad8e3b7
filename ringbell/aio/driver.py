# SPDX-License-Identifier: MIT
"""The side that sends requests and takes the answers, for tasks."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ringbell._ffi import lib
from ringbell.aio.room import Sending, sleep_for
from ringbell.aio.side import Closing, Looks, OfLoop, no_room, nothing_came
from ringbell.errors import ChannelClosed, RingFull

if TYPE_CHECKING:
    from ringbell._ends import Payload
    from ringbell.aio.loop import Future
    from ringbell.calls.driver import Driver as BlockingDriver
    from ringbell.stats import Stats


class Driver(Closing, OfLoop):
    """Calls a device from many tasks at once; made by `connect`.

    For the tasks of one event loop. An asynchronous context manager: the end of the block closes
    the channel. If an exception leaves the block, the device gets PeerLost.
    """

    __slots__ = (
        "_codec",
        "_driver",
        "_fd",
        "_looks",
        "_sending",
        "_submit",
        "_waiting",
        "_watched",
    )

    def __init__(self, driver: BlockingDriver, max_poll: float) -> None:
        """Drive a channel that has been opened; users call `connect`."""
        super().__init__()
        self._driver = driver
        self._submit = driver.submit
        self._codec = driver._channel.codec
        self._fd = driver.interrupt.fileno()
        self._looks = Looks(max_poll)
        self._watched = False
        self._waiting: dict[int, Future[bytes]] = {}
        longest = driver.max_payload // 2
        self._sending = Sending(self._loop, self._sleep, longest, self._unwatch, self._take_back)

    def call(self, payload: Payload, timeout: float | None = None) -> Coroutine[Any, Any, bytes]:
        """Send one request and wait for its answer, at most `timeout` seconds in all.

        Any number of tasks may call at once; other tasks run meanwhile. While the ring is full, the
        task waits until there is room. A request of more than half the ring goes in pieces: until
        all of it is sent, no other task gets an answer. When the task is cancelled, the device may
        still do the request, and the answer is dropped when it comes.

        Raises RequestFailed with the device's text when the device failed the request; RingFull or
        RingEmpty when the time is over; EndOfStream or PeerLost when the device is gone; TypeError
        when the payload is no buffer; ChannelClosed after close, also when another task closes
        meanwhile; RuntimeError in another event loop.
        """
        if timeout is None:
            return self._call(payload)
        sent: list[bool] = []
        return self._for(
            timeout,
            lambda: nothing_came() if sent else no_room(),
            lambda: self._call(payload, sent),
        )

    @property
    def in_flight(self) -> int:
        """How many requests have no answer yet."""
        return self._driver.in_flight

    def stats(self) -> Stats:
        """Read the four indices and the counters of both sides; also possible after close."""
        return self._driver.stats()

    def close(self) -> None:
        """Say goodbye. Tasks that wait for an answer get ChannelClosed.

        Never waits for the device: what has been sent stays in shared memory until it is taken, and
        its answers are dropped. Closing twice does nothing.
        """
        self._unwatch()
        self._driver.close()
        self._fail(ChannelClosed("this side has closed the channel; open a new channel to go on"))

    def _give_up(self) -> None:
        self._unwatch()
        self._driver._give_up()
        self._fail(ChannelClosed("this side has given the channel up; open a new one to go on"))

    def __repr__(self) -> str:
        return repr(self._driver).replace("<ringbell.", "<ringbell.aio.", 1)

    # ---- one call ----

    async def _call(self, payload: Any, sent: list[bool] | None = None) -> Any:  # noqa: ANN401
        if not self._is_running():
            self._refuse_loop()
        if self._codec:
            payload = self._codec.prepared(payload)
        future: Future[bytes] = self._loop.future()
        if self._sending.is_free:
            try:
                self._waiting[self._submit(payload, 0)] = future
            except RingFull:
                await self._send_later(payload, future)
        else:
            await self._send_later(payload, future)
        if sent is not None:
            sent.append(True)
        if self._looks.may_look and len(self._waiting) == 1:
            self._look()
            if future.done() and self._has_to_pause():
                await self._loop.pause()
        if not self._watched and self._waiting:
            self._watch()
        octets = await future
        return self._codec.decode(octets) if self._codec else octets

    async def _send_later(self, payload: Payload, future: Future[bytes]) -> None:
        try:
            await self._sending.run(
                lambda patience: self._attempt(payload, future, patience), payload
            )
        except BaseException:
            future.cancel()  # a thread may send the request all the same
            raise

    def _attempt(self, payload: Payload, future: Future[bytes], timeout: float | None) -> None:
        while True:
            try:
                # A thread does this too, before anybody takes the answer.
                self._waiting[self._submit(payload, timeout)] = future
                return
            except RingFull:
                # Answers that have come wake nobody, so they are taken before a sleep.
                if not self._take():
                    raise

    def _sleep(self) -> None:
        """Sleep until there is room or an answer, inside of both ends."""
        want = lib.RB_SPACE | lib.RB_DATA
        doorbell, interrupt = self._driver.doorbell, self._driver.interrupt
        doorbell._guarded(interrupt._guarded, sleep_for, self._driver._channel, want)

    # ---- answers ----

    def _watch(self) -> None:
        if not (self._watched or self._driver._channel.closed):
            self._watched = True
            self._loop.watch(self._fd, self._take)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._loop.unwatch(self._fd)

    def _take_back(self) -> None:
        """Go on after a thread had the driver."""
        self._take()
        if self._waiting:
            self._watch()

    def _look(self) -> None:
        if self._looks.look(self._driver.interrupt) > 0:
            self._take()

    def _take(self) -> int:
        """Hand out the answers that have come; give how many there were."""
        try:
            return self._driver._hand_out(self._waiting)
        except Exception as error:  # nothing more will come
            self._unwatch()
            self._fail(error)
            return 0

    def _fail(self, error: Exception) -> None:
        """Tell all tasks that wait that no answer will come."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                # One for each: tracebacks grow as an exception is raised again.
                mine = type(error)(*error.args)
                for note in getattr(error, "__notes__", ()):
                    mine.add_note(note)
                with suppress(RuntimeError):  # the loop has been closed
                    future.set_exception(mine)
