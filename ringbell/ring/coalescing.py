# SPDX-License-Identifier: MIT
"""Many entries, one kick: the block of `Producer.coalesce`."""

from __future__ import annotations

import errno
import itertools
import math
import operator
from types import TracebackType
from typing import Self

from ringbell._ffi import lib
from ringbell.channel.channel import Channel

_LONGEST = 3600.0
_blocks = itertools.count(1)


class Coalescing:
    """Holds back the kicks of a producer while its `with` block runs; made by `coalesce`."""

    __slots__ = ("_block", "_bounds", "_channel")

    def __init__(self, channel: Channel, max_entries: int | None, max_delay: float | None) -> None:
        self._channel = channel
        self._block = next(_blocks)
        if max_entries is not None and not 1 <= operator.index(max_entries) < 2**63:
            raise ValueError(f"max_entries is at least 1, or None, not {max_entries}")
        if max_delay is not None and not (math.isfinite(max_delay) and 0 < max_delay <= _LONGEST):
            raise ValueError(
                f"max_delay is above 0 and at most {_LONGEST:.0f} seconds, or None, "
                f"not {max_delay!r}"
            )
        delay_ns = 0 if max_delay is None else max(int(max_delay * 1e9), 1)
        self._bounds = (max_entries or 0, delay_ns)

    def __enter__(self) -> Self:
        """Begin to hold kicks back. Raises RuntimeError inside another such block."""
        # A signal handler may cut this off after the call; __del__ ends the block then.
        status = lib.rb_defer_begin(self._channel.handle, self._block, *self._bounds)
        if status == -errno.EALREADY:
            raise RuntimeError("this end coalesces already; one coalesce() block at a time")
        if status:
            self._channel.fail(status)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send the one kick, if the other side sleeps; also when an exception passes."""
        self._end()

    def _end(self) -> None:
        lib.rb_defer_end(self._channel.handle, self._block)  # no other's

    def __del__(self) -> None:
        # A signal handler that raised at the entry of __exit__ has kept it from its work.
        self._end()
