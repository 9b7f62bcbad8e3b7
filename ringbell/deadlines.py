# SPDX-License-Identifier: MIT
"""Timeouts, and the deadlines that they become on the monotonic clock."""

from __future__ import annotations

import time

from ringbell.arguments import real_number

# Seconds. A longer timeout counts as for ever: a socket counts milliseconds in 32 bits.
_LONGEST = 2e6
_COMPLAINT = "timeout is a number of seconds or None"


def deadline_after(timeout: float | None) -> float | None:
    """Turn a timeout in seconds into a time of the monotonic clock; None is for ever.

    Raises TypeError if it is no number; ValueError if it is nan or negative.
    """
    if timeout is None:
        return None
    seconds = real_number(timeout, _COMPLAINT)
    if seconds < 0:
        raise ValueError(f"{_COMPLAINT}, not {timeout!r}; 0 does not wait, None waits for ever")
    return time.monotonic() + seconds


def seconds_left(deadline: float | None) -> float | None:
    """Give the seconds until the deadline, as a socket takes them; None is for ever."""
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    return max(left, 0.0) if left < _LONGEST else None
