# SPDX-License-Identifier: MIT
"""Doorbell rings in shared memory: requests, answers, messages and records between processes.

ringbell.serve("sha256", lambda payload: hashlib.sha256(payload).digest())   # process 1

with ringbell.connect("sha256") as driver:                                   # process 2
    digest = driver.call(b"hello")

with ringbell.produce("ticks", dtype=tick) as ticks:                         # process 1
    ticks.write(rows)

with ringbell.consume("ticks") as ticks:                                     # process 2
    for rows in ticks: ...

with ringbell.publish("frames", frame, keep="newest") as frames:             # one writer
    frames.write(picture)

with ringbell.subscribe("frames") as frames:                                 # any number of readers
    picture = frames.latest()

with ringbell.launch(handler) as driver: ...                                 # both in one script
with ringbell.Pool(handler, workers=4) as pool: ...
ringbell.pipeline(producer, consumer, dtype=tick)
"""

from typing import TYPE_CHECKING

try:
    # Our extension imports it in C. Tools that freeze programs do not see an import in C.
    import _cffi_backend  # noqa: F401

    from ringbell._ends import Completion, Frame, RecordBlock, Request
except ModuleNotFoundError as _missing:
    from ringbell.unbuilt import complaint

    if not (_text := complaint(__file__, _missing.name)):
        raise
    raise ImportError(_text, name=_missing.name, path=__file__) from None
from ringbell.calls.device import Device
from ringbell.calls.driver import Driver
from ringbell.calls.listener import Listener
from ringbell.calls.opening import connect, listen
from ringbell.calls.server import Server
from ringbell.calls.service import ServedDriver
from ringbell.calls.serving import serve
from ringbell.errors import (
    ChannelClosed,
    CorruptRing,
    EndOfStream,
    LayoutMismatch,
    LetGo,
    MessageTooLong,
    Overwritten,
    PeerLost,
    RequestFailed,
    RingbellError,
    RingEmpty,
    RingFull,
)
from ringbell.policy import Blocks, Moderation
from ringbell.publishing.lent import Lent
from ringbell.publishing.opening import publish, subscribe
from ringbell.publishing.publisher import MessagePublisher
from ringbell.publishing.readers import Reader
from ringbell.publishing.subscriber import MessageSubscriber
from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.stats import (
    BlockCounters,
    ConsumerCounters,
    PollingCounters,
    ProducerCounters,
    SideStats,
    Stats,
)
from ringbell.streams.gather import Gather
from ringbell.streams.gathered_producer import GatheredProducer
from ringbell.streams.messages import MessageConsumer, MessageProducer
from ringbell.streams.opening import consume, gather, produce
from ringbell.waiting import Waiter, wait

if TYPE_CHECKING:
    from ringbell.launching.device import launch
    from ringbell.launching.pipeline import pipeline
    from ringbell.launching.pool import Pool
    from ringbell.pipes.connection import Connection
    from ringbell.pipes.opening import Pipe
    from ringbell.publishing.record_publisher import RecordPublisher
    from ringbell.publishing.record_subscriber import RecordSubscriber
    from ringbell.streams.record_consumer import RecordConsumer
    from ringbell.streams.record_producer import RecordProducer

__version__ = "0.1.0"

__all__ = [
    "BlockCounters",
    "Blocks",
    "ChannelClosed",
    "Completion",
    "Connection",
    "Consumer",
    "ConsumerCounters",
    "CorruptRing",
    "Device",
    "Driver",
    "EndOfStream",
    "Frame",
    "Gather",
    "GatheredProducer",
    "LayoutMismatch",
    "Lent",
    "LetGo",
    "Listener",
    "MessageConsumer",
    "MessageProducer",
    "MessagePublisher",
    "MessageSubscriber",
    "MessageTooLong",
    "Moderation",
    "Overwritten",
    "PeerLost",
    "Pipe",
    "PollingCounters",
    "Pool",
    "Producer",
    "ProducerCounters",
    "Reader",
    "RecordBlock",
    "RecordConsumer",
    "RecordProducer",
    "RecordPublisher",
    "RecordSubscriber",
    "Request",
    "RequestFailed",
    "RingEmpty",
    "RingFull",
    "RingbellError",
    "ServedDriver",
    "Server",
    "SideStats",
    "Stats",
    "Waiter",
    "connect",
    "consume",
    "gather",
    "launch",
    "listen",
    "pipeline",
    "produce",
    "publish",
    "serve",
    "subscribe",
    "wait",
]

# NumPy takes longer to load than all the rest, and only records need it. multiprocessing takes long
# as well, and only a process that starts others needs it.
_LOADED_LATER = {
    "Connection": "pipes.connection",
    "Pipe": "pipes.opening",
    "launch": "launching.device",
    "pipeline": "launching.pipeline",
    "Pool": "launching.pool",
    "RecordConsumer": "streams.record_consumer",
    "RecordProducer": "streams.record_producer",
    "RecordPublisher": "publishing.record_publisher",
    "RecordSubscriber": "publishing.record_subscriber",
}


def __dir__() -> list[str]:
    """Give what users may use, for `help` and for completion: also what is loaded later."""
    there = globals()
    loaded = {name for name in there if name.startswith("__") or name == "aio"}
    return sorted(loaded.union(__all__))


# Not for type checkers: they would accept every name, a mistyped one too.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _LOADED_LATER:
            raise AttributeError(f"module 'ringbell' has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"ringbell.{_LOADED_LATER[name]}"), name)
