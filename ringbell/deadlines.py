# SPDX-License-Identifier: MIT
"""Timeouts, and the times of the monotonic clock when they are over."""

from __future__ import annotations

import time

_FOREVER = -1
_LONGEST_NS = 2**62


def deadline_after(timeout: float | None) -> float | None:
    """Turn a timeout in seconds into a time of the monotonic clock; None is for ever."""
    if timeout is None:
        return None
    if timeout != timeout:
        raise ValueError("timeout is a number of seconds or None, not nan")
    return time.monotonic() + timeout


def seconds_left(deadline: float | None) -> float | None:
    """Give what a socket takes as its timeout; None is for ever."""
    if deadline is None:
        return None
    return min(max(deadline - time.monotonic(), 0.0), _LONGEST_NS / 1e9)


def nanoseconds_left(deadline: float | None) -> int:
    """Give what C takes as its timeout; negative is for ever."""
    if deadline is None:
        return _FOREVER
    left = (deadline - time.monotonic()) * 1e9
    return int(min(max(left, 0.0), _LONGEST_NS))
