# SPDX-License-Identifier: MIT
"""The consuming side of a stream of messages."""

from __future__ import annotations

from ringbell.consumer import Consumer
from ringbell.stream import Stream


class MessageConsumer(Stream, Consumer):
    """Receives messages one way; made by `consume`. A context manager."""

    __slots__ = ()
