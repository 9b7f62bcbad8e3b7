# SPDX-License-Identifier: MIT
"""Rings whose indices start where a test wants them, for wrap-around."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ringbell.meeting import segment


@contextmanager
def indices_from(start: int) -> Iterator[None]:
    """Start the indices of channels that the block makes there; all others start at 0."""
    segment.FIRST_INDEX = start % 2**64
    try:
        yield
    finally:
        segment.FIRST_INDEX = 0
