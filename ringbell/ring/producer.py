# SPDX-License-Identifier: MIT
"""The producing end of a message ring."""

from __future__ import annotations

from ringbell._ends import MessageProducer
from ringbell.ring.ends import ProducingEnd


class Producer(ProducingEnd, MessageProducer):
    """Sends messages into a ring; `driver.doorbell` and `device.interrupt` are producers.

    For one thread at a time: a second thread gets RuntimeError.

    If the channel has a codec, `send` and `send_many` take objects. They raise what the codec
    raises, and send nothing then. `reserve` gives room for bytes that the other side can decode.
    """

    __slots__ = ()
