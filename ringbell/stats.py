# SPDX-License-Identifier: MIT
"""What `stats()` returns: the four indices and what each end has done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class PollingCounters:
    """What polling one end has done, and what it has learnt from that."""

    found: int
    """Waits that polling ended, without a sleep."""
    missed: int
    """Waits that polling did not end."""
    capped: int
    """Waits that polled less than the budget, or not at all, because of `max_share`."""
    time_ns: int
    """Nanoseconds spent polling."""
    budget_ns: int
    """Nanoseconds that adaptive polling may take in the next wait; 0: it sleeps at once."""
    grown: int
    """Times the budget grew, because a longer poll would have found an entry."""
    shrunk: int
    """Times the budget shrank, or polling was left out of the next waits, because it found none."""


@dataclass(frozen=True, slots=True)
class ProducerCounters:
    """What one producing end has done since the channel was opened."""

    entries: int
    """Frames or records published."""
    bytes: int
    """Payload bytes in them."""
    kicks_sent: int
    """Eventfd writes to wake the consumer."""
    kicks_saved: int
    """Publishes without a kick: the consumer was awake, or one kick is for several publishes."""
    kicks_late: int
    """Times a timer was set to wake the consumer (`Moderation`, `coalesce(max_delay=...)`)."""
    sleeps: int
    """Times it asked the kernel to wait for room."""
    wakeups: int
    """Sleeps that ended with room."""
    spurious_wakeups: int
    """Sleeps that a kick ended without any room."""
    times_full: int
    """Times it found the ring full."""
    polling: PollingCounters
    """How its waits for room polled."""


@dataclass(frozen=True, slots=True)
class ConsumerCounters:
    """What one consuming end has done since the channel was opened."""

    entries: int
    """Frames or records released."""
    bytes: int
    """Payload bytes in them."""
    kicks_sent: int
    """Eventfd writes to wake a producer that waits for room."""
    kicks_saved: int
    """Releases that needed no kick, because the producer was awake."""
    kicks_late: int
    """Always 0: a kick for room is sent at once."""
    sleeps: int
    """Times it asked the kernel to wait for data."""
    wakeups: int
    """Sleeps that ended with data."""
    spurious_wakeups: int
    """Sleeps that a kick ended without any data."""
    times_empty: int
    """Times it found the ring empty."""
    polling: PollingCounters
    """How its waits for data polled."""


@dataclass(frozen=True, slots=True)
class BlockCounters:
    """What one side has sent by reference; see `Blocks`."""

    sent: int
    """Payloads that went by reference."""
    copied: int
    """Payloads that were large enough, and went through the ring: no block was free, the pool was
    too small for them, or there was no memory for it."""
    lent: int
    """Blocks that the other side held when this side last looked, as it does when it sends one."""


@dataclass(frozen=True, slots=True)
class SideStats:
    """Both ends of one side."""

    producer: ProducerCounters
    consumer: ConsumerCounters
    blocks: BlockCounters


@dataclass(frozen=True, slots=True)
class Stats:
    """A channel at one moment, as either side sees it; `dataclasses.asdict` makes dicts of it.

    The indices count slots (of 64 bytes, or of one record), run freely and wrap at 2**64.
    `dwi - dri` slots of the doorbell ring and `iwi - iri` slots of the interrupt ring are in use.
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
    memory: str
    """What the shared memory is: `"memfd"`, which is sealed so that nobody can shorten it, or
    `"posix"`, a file on /dev/shm."""


_Counters = TypeVar("_Counters")

_POLLING = len(fields(PollingCounters))
END_WORDS = len(fields(ProducerCounters)) - 1 + _POLLING  # the same for consumers

_BLOCKS = len(fields(BlockCounters))

WORDS = 4 + 2 * _BLOCKS + 4 * END_WORDS
"""How many words `rb_channel_stats` writes."""


def from_words(words: Sequence[int], memory: str) -> Stats:
    """Name the words of `rb_channel_stats`."""
    dwi, dri, iwi, iri, *counters = words
    driver, device = (BlockCounters(*counters[i * _BLOCKS :][:_BLOCKS]) for i in range(2))
    counters = counters[2 * _BLOCKS :]
    a, b, c, d = (counters[i * END_WORDS : (i + 1) * END_WORDS] for i in range(4))
    return Stats(
        dwi=dwi,
        dri=dri,
        iwi=iwi,
        iri=iri,
        driver=SideStats(_end(ProducerCounters, a), _end(ConsumerCounters, b), driver),
        device=SideStats(_end(ProducerCounters, c), _end(ConsumerCounters, d), device),
        memory=memory,
    )


def consumer_from_words(words: Sequence[int]) -> ConsumerCounters:
    """Name the words of `rb_readers_counters`, as many as END_WORDS."""
    return _end(ConsumerCounters, words)


def _end(kind: Callable[..., _Counters], words: Sequence[int]) -> _Counters:
    return kind(*words[:-_POLLING], PollingCounters(*words[-_POLLING:]))
