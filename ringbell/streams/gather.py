# SPDX-License-Identifier: MIT
"""One consumer for many producers."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import LACKING
from ringbell.channel.nudge import Nudge
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import (
    ChannelClosed,
    CorruptRing,
    EndOfStream,
    LayoutMismatch,
    PeerLost,
    RingEmpty,
)
from ringbell.streams.consuming import consume_channel
from ringbell.streams.gathered_producer import GatheredProducer
from ringbell.streams.messages import MessageConsumer
from ringbell.waiting import Waiter

if TYPE_CHECKING:
    import numpy as np

    from ringbell.channel.channel import Channel
    from ringbell.meeting.reception import Reception
    from ringbell.streams.gather_meeting import GatherMeeting
    from ringbell.streams.record_consumer import RecordConsumer

    _Consumer = MessageConsumer | RecordConsumer

_log = logging.getLogger("ringbell")
_Entries = TypeVar("_Entries")
_Hook = Callable[[GatheredProducer], object] | None

_TURN = 64
"""The most messages of one producer that come before the next producer has its turn."""


class Gather(Closing, Generic[_Entries]):
    """Takes from many producers, who come and go; made by `gather`. A context manager.

    `for producer, rows in gather` gives what has arrived, producer after producer, until `close`.
    The producers have turns: a turn is up to 64 messages, or one array of the records that have
    arrived, of up to 1 MiB. What one producer sent comes in order. For one thread at a time.
    """

    # What is taken is handed over as in csrc/python/python.h: after a subscript, and before the
    # `yield` or `return` behind it, Python runs no signal handler. So no message is lost when one
    # raises.

    __slots__ = (
        "__weakref__",
        "_arrived",
        "_checked",
        "_closed",
        "_left",
        "_lender",
        "_meeting",
        "_nudge",
        "_pollable",
        "_producers",
        "_ready",
        "_reception",
        "_steps",
        "_waiter",
    )

    def __init__(
        self,
        meeting: GatherMeeting,
        checked: bool,
        arrived: _Hook,
        left: _Hook,
    ) -> None:
        """Listen, and take the producers that wait under the name; users call `gather`."""
        self._meeting = meeting
        self._checked = checked
        self._arrived = arrived
        self._left = left
        self._closed = False
        self._pollable = False
        self._producers: dict[_Consumer, GatheredProducer] = {}
        self._ready: deque[object] = deque()  # those whose turn will come
        self._lender: GatheredProducer | None = None  # whose turn it is
        self._steps = 0  # that are left of this turn
        policy = meeting.policy
        self._waiter: Waiter[_Consumer | Reception | Nudge] = Waiter(
            polling=policy.polling, max_poll=policy.max_poll
        )
        self._nudge = Nudge()
        self._waiter.add(self._nudge)
        self._reception, channels = meeting.take_name()
        try:
            self._waiter.add(self._reception)
            for channel in channels:
                self._add(channel)
        except BaseException:
            for channel in channels:
                channel.give_up()
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._reception.path

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of one record; None for messages, and until the first producer has come."""
        return self._meeting.dtype

    @property
    def producers(self) -> list[GatheredProducer]:
        """The producers that are connected now, in the order of their arrival."""
        return list(self._producers.values())

    def take(self, timeout: float | None = None) -> tuple[GatheredProducer, _Entries]:
        """Take the next message, or the records that have arrived, and say whose it is.

        Gives what the next step of the loop would give: `(producer, payload)`, a read-only view, or
        `(producer, rows)`, a read-only array. Both lie in the ring, and are valid until the next
        step; to keep them, copy them. Blocks while there is nothing. Meanwhile it lets producers
        in, and parts with those that have gone: the hooks of `gather` run in here.

        Raises RingEmpty after `timeout` seconds; ChannelClosed after `close`; MessageTooLong for a
        message that is longer than `max_message` (the next step goes on behind it); BufferError,
        and takes nothing, while a slice of the message taken before is alive; RuntimeError when
        another thread waits in here.
        """
        deadline = deadline_after(timeout)
        looked = self._pollable or timeout != 0
        while True:
            producer = self._lender if self._steps else None
            try:
                producer = producer or self._next(deadline)
            except RingEmpty:
                if looked:
                    raise
                # A waiter's quick look may miss what arrived some microseconds ago.
                looked = True
                self._ready.extend(self._producers)
                continue
            self._steps -= 1
            try:
                return producer, producer._take[producer._key]
            except RingEmpty:
                self._steps = 0
            except (EndOfStream, PeerLost, CorruptRing, ChannelClosed) as error:
                self._part(producer, error)

    def fileno(self) -> int:
        """Give a descriptor for an event loop: readable when `take(timeout=0)` may give something.

        Take until RingEmpty before you sleep on it. Call `take` once a second even if it stays
        unreadable: who connected and says nothing is sent away in there. The gather owns the
        descriptor.
        """
        descriptor = self._waiter.fileno()
        self._pollable = True
        return descriptor

    def __iter__(self) -> Iterator[tuple[GatheredProducer, _Entries]]:
        return chain.from_iterable(self._turns())

    def _turns(self) -> Iterator[Iterable[tuple[GatheredProducer, _Entries]]]:
        """Give the turns, each as what iterates over it.

        The first step of a turn is taken in here: it finds out who has gone. The other messages of
        the turn are taken in C.
        """
        while True:
            producer = self._next(None)
            more, self._steps = self._steps - 1, 0
            try:
                yield ((producer, producer._take[producer._key]),)
            except RingEmpty:
                continue
            except (EndOfStream, PeerLost, CorruptRing, ChannelClosed) as error:
                self._part(producer, error)
                continue
            if more:
                yield zip(repeat(producer), islice(producer._more, more), strict=False)

    def close(self) -> None:
        """Free the name, and close the streams of all producers.

        Producers that send more get EndOfStream. Any thread and any signal handler may close; a
        loop or a `take` that runs ends with ChannelClosed. Closing twice does nothing.
        """
        self._end_all(MessageConsumer.close)

    def _give_up(self) -> None:
        """Close because an exception leaves the block. Lent entries count as not taken."""
        self._end_all(MessageConsumer._give_up)

    def _end_all(self, end: Callable[[Any], None]) -> None:
        # A signal handler that raises may end this anywhere, so each step may be done twice.
        self._closed = True
        self._nudge.give()
        for consumer in list(self._producers):
            end(consumer)
        self._producers.clear()
        # The thread that is inside of the waiter closes it then. In a forked child it is closed.
        with suppress(RuntimeError, ChannelClosed):
            self._close_waiter()
        self._reception.close()

    def _close_waiter(self) -> None:
        self._waiter.close()
        self._nudge.close()

    # ---- turns ----

    def _next(self, deadline: float | None) -> GatheredProducer:
        """End the turn of a producer, and say whose turn is next."""
        if self._lender:
            try:  # noqa: SIM105  (quicker, in each turn)
                self._lender._consumer._give_back()
            except (ChannelClosed, CorruptRing):
                pass  # its next turn tells
            self._lender = None
        while True:
            if self._closed:
                self._tell_of_close()
            if not self._ready:
                self._wait(deadline)
                continue
            member: Any = self._ready.popleft()
            if producer := self._producers.get(member):
                self._steps = _TURN if producer._more else 1
                self._lender = producer
                return producer
            if member is self._reception:
                self._let_in()
            elif member is not self._nudge:
                self._waiter.discard(member)  # it has gone; an interrupt was in between

    def _wait(self, deadline: float | None) -> None:
        """Wait until somebody is ready; raises RingEmpty when the time is over."""
        silence = self._reception.silence_over()
        over = deadline
        if silence is not None:
            over = silence if deadline is None else min(deadline, silence)
        try:
            self._ready.extend(self._waiter.wait(seconds_left(over)))
        except ChannelClosed:
            if self._closed:
                self._tell_of_close()
            raise ChannelClosed(
                "this gather belongs to the process that this one was forked from; gather under "
                "another name in this process"
            ) from None
        if self._ready:
            return
        if silence is not None:
            self._let_in()  # and forget who is silent
        if seconds_left(deadline) == 0:
            raise RingEmpty("nothing arrived within the timeout")

    def _tell_of_close(self) -> NoReturn:
        for consumer in list(self._producers):  # one may have come meanwhile
            consumer.close()
        with suppress(RuntimeError):
            self._close_waiter()
        raise ChannelClosed("this gather has been closed; make another one to go on")

    # ---- coming and going ----

    def _let_in(self) -> None:
        """Take all producers that have come."""
        while not self._closed:
            try:
                channel = self._reception.receive(self._meeting, deadline_after(0))
            except TimeoutError:
                return
            except LayoutMismatch:
                continue  # a producer of another kind; it has been told
            except ChannelClosed:
                if self._closed:
                    return
                raise
            except OSError as error:
                if error.errno not in LACKING:
                    raise
                _log.warning("refused a producer on %s: %s", self.path, error.strerror)
                return
            assert channel is not None, "a gather keeps its name"
            self._add(channel)

    def _add(self, channel: Channel) -> None:
        consumer = consume_channel(channel, self._meeting.dtype, self._checked)
        try:
            producer = self._producers[consumer] = GatheredProducer(consumer)
            self._waiter.add(consumer)
            if self._arrived:
                self._arrived(producer)
        except BaseException:
            self._forget(consumer)
            consumer.close()
            raise

    def _forget(self, consumer: _Consumer) -> bool:
        """Say whether it was there."""
        there = self._producers.pop(consumer, None) is not None
        self._waiter.discard(consumer)
        return there

    def _part(self, producer: GatheredProducer, error: Exception) -> None:
        """Part with a producer that has gone. All that it sent has been taken."""
        if self._closed:
            self._tell_of_close()
        if isinstance(error, (PeerLost, CorruptRing)):
            producer.lost = True
            _log.warning("%s", error)
        consumer = producer._consumer
        consumer.close()
        self._steps, self._lender = 0, None
        if self._forget(consumer) and self._left:
            self._left(producer)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Gather cannot be copied or pickled: its streams are this process's; gather again, "
            "under another name"
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._producers)} producers"
        return f"<ringbell.Gather {self.path}, {state}>"
