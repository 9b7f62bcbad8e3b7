# SPDX-License-Identifier: MIT
"""The two sides of a stream of messages."""

from __future__ import annotations

from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.streams.stream import ProducingStream, Stream


class MessageProducer(ProducingStream, Producer):
    """Sends messages one way; made by `produce`. A context manager.

    An exception that leaves its `with` block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()


class MessageConsumer(Stream, Consumer):
    """Receives messages one way; made by `consume`. A context manager."""

    __slots__ = ()
