# SPDX-License-Identifier: MIT
"""Doorbell rings in shared memory: requests, answers and messages between two processes.

ringbell.serve("sha256", lambda payload: hashlib.sha256(payload).digest())   # process 1

with ringbell.connect("sha256") as driver:                                   # process 2
    digest = driver.call(b"hello")
"""

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
from ringbell.moderation import Moderation
from ringbell.producer import Producer
from ringbell.request import Request
from ringbell.serving import serve
from ringbell.stats import ConsumerCounters, ProducerCounters, SideStats, Stats

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
    "Moderation",
    "PeerLost",
    "Producer",
    "ProducerCounters",
    "Request",
    "RequestFailed",
    "RingEmpty",
    "RingFull",
    "RingbellError",
    "SideStats",
    "Stats",
    "connect",
    "listen",
    "serve",
]
