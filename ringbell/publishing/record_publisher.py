# SPDX-License-Identifier: MIT
"""The writing side of a publication of records."""

from __future__ import annotations

from ringbell.publishing.publisher import Publishing
from ringbell.streams.record_producer import RecordProducer


class RecordPublisher(Publishing, RecordProducer):
    """Writes records for many subscribers; made by `publish(name, dtype)`. A context manager.

    An exception that leaves its `with` block gives the publication up: its subscribers get
    PeerLost.
    """

    __slots__ = ("_readers",)
