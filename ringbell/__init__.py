# SPDX-License-Identifier: MIT
"""Doorbell rings in shared memory: requests, answers, messages and records between two processes.

ringbell.serve("sha256", lambda payload: hashlib.sha256(payload).digest())   # process 1

with ringbell.connect("sha256") as driver:                                   # process 2
    digest = driver.call(b"hello")

with ringbell.produce("ticks", dtype=tick) as ticks:                         # process 1
    ticks.write(rows)

with ringbell.consume("ticks") as ticks:                                     # process 2
    for rows in ticks: ...
"""

from typing import TYPE_CHECKING, Any

from ringbell.completion import Completion
from ringbell.consumer import Consumer
from ringbell.device import Device
from ringbell.driver import Driver
from ringbell.errors import (
    ChannelClosed,
    CorruptRing,
    EndOfStream,
    LayoutMismatch,
    PeerLost,
    RequestFailed,
    RingbellError,
    RingEmpty,
    RingFull,
)
from ringbell.frame import Frame
from ringbell.listener import Listener
from ringbell.meeting import connect, listen
from ringbell.message_consumer import MessageConsumer
from ringbell.message_producer import MessageProducer
from ringbell.moderation import Moderation
from ringbell.producer import Producer
from ringbell.request import Request
from ringbell.serving import serve
from ringbell.stats import ConsumerCounters, PollingCounters, ProducerCounters, SideStats, Stats
from ringbell.streaming import consume, produce

if TYPE_CHECKING:
    from ringbell.record_block import RecordBlock
    from ringbell.record_consumer import RecordConsumer
    from ringbell.record_producer import RecordProducer

__version__ = "0.1.0"

__all__ = [
    "ChannelClosed",
    "Completion",
    "Consumer",
    "ConsumerCounters",
    "CorruptRing",
    "Device",
    "Driver",
    "EndOfStream",
    "Frame",
    "LayoutMismatch",
    "Listener",
    "MessageConsumer",
    "MessageProducer",
    "Moderation",
    "PeerLost",
    "PollingCounters",
    "Producer",
    "ProducerCounters",
    "RecordBlock",
    "RecordConsumer",
    "RecordProducer",
    "Request",
    "RequestFailed",
    "RingEmpty",
    "RingFull",
    "RingbellError",
    "SideStats",
    "Stats",
    "connect",
    "consume",
    "listen",
    "produce",
    "serve",
]

# NumPy takes longer to load than all the rest, and only records need it.
_WITH_NUMPY = {
    "RecordBlock": "record_block",
    "RecordConsumer": "record_consumer",
    "RecordProducer": "record_producer",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401  (whatever is asked for)
    if name not in _WITH_NUMPY:
        raise AttributeError(f"module 'ringbell' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ringbell.{_WITH_NUMPY[name]}"), name)
