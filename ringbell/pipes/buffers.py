# SPDX-License-Identifier: MIT
"""The part of a caller's buffer that a connection sends, or receives into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringbell._types import Payload


def room_of(buf: Any, offset: int) -> memoryview:  # noqa: ANN401  (arrays, too)
    """Give the bytes of a writable buffer from `offset` on."""
    with memoryview(buf) as whole, whole.cast("B") as room:
        if room.readonly:
            raise TypeError("the buffer is not writable; receive into a bytearray or an array")
        if offset < 0:
            raise ValueError("negative offset")
        if offset > len(room):
            raise ValueError("offset too large")
        return room[offset:]


def part_of(buf: Payload, offset: int, size: int | None) -> memoryview:
    """Give `size` bytes of a contiguous buffer from `offset` on, or all up to its end."""
    whole = memoryview(buf).cast("B")  # type: ignore[arg-type]
    if offset < 0:
        raise ValueError("offset is negative")
    if len(whole) < offset:
        raise ValueError("buffer length < offset")
    if size is None:
        return whole[offset:]
    if size < 0:
        raise ValueError("size is negative")
    if offset + size > len(whole):
        raise ValueError("buffer length < offset + size")
    return whole[offset : offset + size]
