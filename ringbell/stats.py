# SPDX-License-Identifier: MIT
"""What `stats()` returns: the four indices and what each end has done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class ProducerCounters:
    """What one producing end has done since the channel was opened."""

    entries: int
    """Frames published."""
    bytes: int
    """Payload bytes in them."""
    kicks_sent: int
    """Eventfd writes to wake the consumer."""
    kicks_saved: int
    """Publishes without a kick: the consumer was awake, or is kicked for several at a time."""
    kicks_late: int
    """Times a timer was set to wake the consumer (`Moderation`, `coalesce(max_delay=...)`)."""
    sleeps: int
    """Times it asked the kernel to wait for room."""
    wakeups: int
    """Sleeps that ended with room."""
    spurious_wakeups: int
    """Sleeps that a kick ended without any room."""
    polls_found: int
    """Waits for room that polling ended, without a sleep."""
    times_full: int
    """Times it found the ring full."""


@dataclass(frozen=True, slots=True)
class ConsumerCounters:
    """What one consuming end has done since the channel was opened."""

    entries: int
    """Frames released."""
    bytes: int
    """Payload bytes in them."""
    kicks_sent: int
    """Eventfd writes to wake a producer that waits for room."""
    kicks_saved: int
    """Releases that needed no kick, because the producer was awake."""
    kicks_late: int
    """Always 0: room is never told of later."""
    sleeps: int
    """Times it asked the kernel to wait for data."""
    wakeups: int
    """Sleeps that ended with data."""
    spurious_wakeups: int
    """Sleeps that a kick ended without any data."""
    polls_found: int
    """Waits for data that polling ended, without a sleep."""
    times_empty: int
    """Times it found the ring empty."""


@dataclass(frozen=True, slots=True)
class SideStats:
    """Both ends of one side."""

    producer: ProducerCounters
    consumer: ConsumerCounters


@dataclass(frozen=True, slots=True)
class Stats:
    """A channel at one moment, as either side sees it; `dataclasses.asdict` makes it plain.

    The indices count slots of 64 bytes, run freely and wrap at 2**64. `dwi - dri` slots of the
    doorbell ring and `iwi - iri` slots of the interrupt ring are in use.
    """

    dwi: int
    """Write index of the doorbell ring, moved by the driver."""
    dri: int
    """Read index of the doorbell ring, moved by the device."""
    iwi: int
    """Write index of the interrupt ring, moved by the device."""
    iri: int
    """Read index of the interrupt ring, moved by the driver."""
    driver: SideStats
    device: SideStats


WORDS = 4 + 2 * (len(fields(ProducerCounters)) + len(fields(ConsumerCounters)))
"""How many words `rb_channel_stats` writes."""


def from_words(words: Sequence[int]) -> Stats:
    """Name the words of `rb_channel_stats`."""
    dwi, dri, iwi, iri, *counters = words
    size = len(fields(ProducerCounters))
    a, b, c, d = (counters[i * size : (i + 1) * size] for i in range(4))
    return Stats(
        dwi=dwi,
        dri=dri,
        iwi=iwi,
        iri=iri,
        driver=SideStats(ProducerCounters(*a), ConsumerCounters(*b)),
        device=SideStats(ProducerCounters(*c), ConsumerCounters(*d)),
    )
