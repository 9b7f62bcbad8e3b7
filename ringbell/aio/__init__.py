# SPDX-License-Identifier: MIT
"""Rings in event loops: the functions of ringbell, awaitable, for asyncio, uvloop and trio.

from ringbell import aio

await aio.serve("sha256", handler)                         # process 1; a function or a coroutine

async with aio.connect("sha256") as driver:                # process 2
    digest = await driver.call(b"hello")                   # from many tasks at once

async with aio.produce("ticks", dtype=tick) as ticks:      # process 1
    await ticks.write(rows)

async with aio.consume("ticks") as ticks:                  # process 2
    async for rows in ticks: ...

async with aio.gather("ticks") as ticks:                   # from any number of producers
    async for producer, rows in ticks: ...

async with aio.publish("ticks", tick) as ticks:            # for any number of subscribers
    await ticks.write(rows)

async with aio.subscribe("ticks") as ticks:
    async for rows in ticks: ...

Each object belongs to the event loop in which it was opened.
"""

from ringbell.aio.consumer import MessageConsumer, RecordConsumer
from ringbell.aio.device import Device, Request
from ringbell.aio.driver import Driver
from ringbell.aio.gather import Gather
from ringbell.aio.listener import Listener
from ringbell.aio.opened import Opening
from ringbell.aio.opening import connect, consume, gather, listen, produce
from ringbell.aio.producer import MessageProducer, RecordProducer
from ringbell.aio.publisher import MessagePublisher, RecordPublisher
from ringbell.aio.publishing import publish, subscribe
from ringbell.aio.serving import serve
from ringbell.aio.subscriber import MessageSubscriber, RecordSubscriber

__all__ = [
    "Device",
    "Driver",
    "Gather",
    "Listener",
    "MessageConsumer",
    "MessageProducer",
    "MessagePublisher",
    "MessageSubscriber",
    "Opening",
    "RecordConsumer",
    "RecordProducer",
    "RecordPublisher",
    "RecordSubscriber",
    "Request",
    "connect",
    "consume",
    "gather",
    "listen",
    "produce",
    "publish",
    "serve",
    "subscribe",
]


def __dir__() -> list[str]:
    """Give what users may use, for `help` and for completion."""
    return sorted({name for name in globals() if name.startswith("__")}.union(__all__))
