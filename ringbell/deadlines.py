# SPDX-License-Identifier: MIT
"""Timeouts, and the times of the monotonic clock when they are over."""

from __future__ import annotations

import time

# Seconds. What is longer is for ever: a socket counts its milliseconds in 32 bits.
_LONGEST = 2e6


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
    left = deadline - time.monotonic()
    return max(left, 0.0) if left < _LONGEST else None
