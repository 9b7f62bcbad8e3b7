# SPDX-License-Identifier: MIT
"""The producing side of a stream of messages."""

from __future__ import annotations

from ringbell.producer import Producer
from ringbell.producing_stream import ProducingStream


class MessageProducer(ProducingStream, Producer):
    """Sends messages one way; made by `produce`. A context manager.

    An exception that leaves its `with` block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()
