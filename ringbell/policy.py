# SPDX-License-Identifier: MIT
"""How an end waits, kicks and wants to be woken."""

from __future__ import annotations

import errno
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from ringbell._ffi import lib
from ringbell.arguments import real_number, shown, whole_number
from ringbell.available import available_memory
from ringbell.codecs import Codec

_LONGEST = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Moderation:
    """Have a sleeping consumer woken after `entries` entries, or `delay` seconds after the first.

    Whichever comes first wakes it. There are fewer wake-ups and more latency, as in network cards.
    A consumer that still polls finds an entry at once. The producer sets a timer of the kernel for
    each wake-up, which takes one system call. A producer that finds the ring full wakes the
    consumer at once.

    Raises ValueError unless `entries` is from 2 to 2**32 and `delay` above 0 and at most 1 second.
    """

    entries: int = 32
    delay: float = 50e-6

    def __post_init__(self) -> None:
        complaint = "entries is from 2 to 2**32 (for no moderation use None)"
        whole_number(self.entries, 2, 2**32, complaint)
        complaint = f"delay is above 0 and at most {_LONGEST} seconds"
        if not 0 < real_number(self.delay, complaint) <= _LONGEST:
            raise ValueError(f"{complaint}, not {shown(self.delay)}")


def moderation_arguments(moderation: Moderation | None) -> tuple[int, int]:
    """Give what `rb_channel_moderation` takes."""
    if moderation is None:
        return 1, 0
    if not isinstance(moderation, Moderation):
        raise TypeError(f"moderation is a ringbell.Moderation or None, not {moderation!r}")
    return moderation.entries, max(int(moderation.delay * 1e9), 1)


Polling = Literal["adaptive", "never", "always"]
Kick = Literal["asleep", "always"]

MAX_POLL = 100e-6
"""Seconds. A little more than a wake-up takes, so that two sides that answer each other go on to
poll."""

MAX_SHARE = 1.0
"""The share of the time that polling may take: all of it, so adaptive polling has no bound."""

_POLLING = {
    "adaptive": lib.RB_POLL_ADAPTIVE,
    "never": lib.RB_POLL_NEVER,
    "always": lib.RB_POLL_ALWAYS,
}


WhenLent = Literal["copy", "wait"]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Have this side send large payloads by reference.

    A payload of at least `least` bytes is written into a block of shared memory, and only its place
    goes through the ring. The other side reads it there: `hold`, `borrow` and `Request.hold` give a
    view of the block, `recv` and `call` a copy. It may keep a held block for as long as it wants,
    and gives it back by dropping all that was made from the view.

    The blocks are parts of a pool of `pool` bytes, for one direction of one channel. The pool is
    made for the first such payload, and takes memory as far as it has been used at once. A payload
    that is larger than the pool goes through the ring, in pieces. `when_lent` says what happens
    when the other side holds so much that no block is free: `"copy"` sends through the ring,
    `"wait"` waits for a block as for room in the ring. At most 2,048 blocks are lent at a time.
    `stats().driver.blocks` and `stats().device.blocks` count.

    To open a channel with them raises OSError (ENOSPC) if the machine has less memory than `pool`.
    Raises TypeError or ValueError unless `pool` is from 1 page to 2**46 bytes, `least` at least 1
    byte and at most `pool`.
    """

    pool: int = 256 << 20
    least: int = 256 << 10
    when_lent: WhenLent = "copy"

    def __post_init__(self) -> None:
        complaint = "pool is how many bytes all blocks have, from 4096 to 2**46"
        whole_number(self.pool, 4096, 2**46, complaint)
        complaint = "least is the size in bytes from which on a payload lies in a block"
        whole_number(self.least, 1, self.pool, f"{complaint}: from 1 to pool")
        _one_of(("copy", "wait"), self.when_lent, "when_lent is 'copy' or 'wait'")


def blocks_arguments(blocks: Blocks) -> tuple[int, int, bool]:
    """Give what `rb_channel_blocks` takes."""
    return blocks.pool, blocks.least, blocks.when_lent == "copy"


def check_blocks(blocks: Blocks | None, dtype: object) -> None:
    """Raise ValueError if a stream of records is to send by reference."""
    if blocks is not None and dtype is not None:
        raise ValueError("blocks are for messages; records are written into the ring in place")


@dataclass(frozen=True, slots=True)
class Policy:
    """How one side of a channel waits, kicks and sends, how long a message it takes, and its codec.

    These are the options of the functions that open a channel, checked.
    """

    polling: Polling = "adaptive"
    max_poll: float = MAX_POLL
    max_share: float = MAX_SHARE
    kick: Kick = "asleep"
    moderation: Moderation | None = None
    max_message: int | None = None
    codec: Codec | None = None
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        _one_of(_POLLING, self.polling, f"polling is one of {', '.join(_POLLING)}")
        _one_of(("asleep", "always"), self.kick, "kick is 'asleep' or 'always'")
        # The bound is low because no signal interrupts a poll, and Ctrl-C has to work at once.
        complaint = "max_poll is from 0 to 0.05 seconds"
        if not 0 <= real_number(self.max_poll, complaint) <= 0.05:
            raise ValueError(f"{complaint}, not {shown(self.max_poll)}")
        complaint = "max_share is from 0 to 1"
        if not 0 <= real_number(self.max_share, complaint) <= 1:
            raise ValueError(f"{complaint}, not {shown(self.max_share)}")
        if self.polling == "always" and self.max_share != MAX_SHARE:
            raise ValueError("max_share bounds adaptive polling; polling='always' has no bound")
        moderation_arguments(self.moderation)
        if self.blocks is not None and not isinstance(self.blocks, Blocks):
            raise TypeError(f"blocks is a ringbell.Blocks or None, not {shown(self.blocks)}")
        if self.blocks is not None and self.blocks.pool > (available := available_memory()):
            raise OSError(
                errno.ENOSPC,
                f"no memory for a pool of {self.blocks.pool} bytes: the machine has {available} "
                "available; use Blocks with a smaller pool",
            )
        if self.max_message is not None:
            complaint = "max_message is at least 1 byte, or None"
            whole_number(self.max_message, 1, 2**63 - 1, complaint)

    def as_arguments(self) -> tuple[int, int, int, int]:
        """Give what `rb_channel_policy` takes."""
        share = int(self.max_share * lib.RB_SHARE_ALL)
        return _POLLING[self.polling], int(self.max_poll * 1e9), share, self.kick == "always"


def _one_of(words: Container[str], word: object, complaint: str) -> None:
    if not isinstance(word, str):
        raise TypeError(f"{complaint}, not {shown(word)}")
    if word not in words:
        raise ValueError(f"{complaint}, not {shown(word)}")
