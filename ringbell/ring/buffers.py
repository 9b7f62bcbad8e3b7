# SPDX-License-Identifier: MIT
"""Payloads: any contiguous buffer goes in; what is lent out can be taken back."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from ringbell._ffi import ffi

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ringbell._ffi import CData

_new_bytes: Any = None
# What has a len() that is its size; that of others may count something else.
_COUNT_BYTES = {bytes, bytearray}


def as_buffer(payload: ReadableBuffer) -> CData:
    """Give C access to a payload without a copy; `len` of the result is its size in bytes.

    What is no buffer but speaks DLPack, as tensors do, is taken by that. Raises TypeError for what
    is neither and ValueError for one that is not contiguous.
    """
    try:
        try:
            return ffi.from_buffer(payload)
        except TypeError:
            return ffi.from_buffer(_through_dlpack(payload))
    except (BufferError, ValueError):
        raise ValueError(
            f"the {type(payload).__name__} is not contiguous; send a contiguous copy of it"
        ) from None


def _through_dlpack(payload: Any) -> Any:  # noqa: ANN401  (a tensor of any library; an array)
    import numpy as np

    try:
        return np.from_dlpack(payload)
    except (AttributeError, TypeError, BufferError, RuntimeError):
        raise TypeError(
            "a payload is bytes or another buffer (bytearray, memoryview, array, NumPy array), or "
            f"a tensor in memory, not {type(payload).__name__}; encode it first"
        ) from None


def join(payloads: list[ReadableBuffer], most: int) -> tuple[bytes, array[int]]:
    """Lay the first payloads end to end, as far as they are `most` bytes together.

    Returns them and the size of each in bytes; none when the first is longer. Raises what
    `as_buffer` raises.
    """
    if not set(map(type, payloads)) <= _COUNT_BYTES:
        payloads = [memoryview(ffi.buffer(as_buffer(payload))) for payload in payloads]
    sizes = list(map(len, payloads))  # type: ignore[arg-type]
    if sum(sizes) > most:
        first = bisect_right(list(accumulate(sizes)), most)
        payloads, sizes = payloads[:first], sizes[:first]
    return b"".join(payloads), array("Q", sizes)


def unfilled_bytes(size: int) -> bytes:
    """Make a bytes object whose content is still to be written, before anybody else sees it.

    As C does it: PyBytes_FromStringAndSize with NULL. `bytes(size)` would write it all once more,
    which is a good part of the time that a large message takes.
    """
    global _new_bytes
    if _new_bytes is None:
        import ctypes

        _new_bytes = ctypes.PyDLL(None)["PyBytes_FromStringAndSize"]
        _new_bytes.restype = ctypes.py_object
        _new_bytes.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t)
    made: bytes = _new_bytes(None, size)
    return made


def lend(ring: memoryview, start: int, stop: int) -> tuple[memoryview, memoryview]:
    """Lend `ring[start:stop]`; return the view to hand out and the memory to take it back with.

    A slice of a memoryview, or an array made from it, does not keep the memoryview itself from
    being released, so that alone would not tell whether somebody still looks at the memory. They
    all share the one buffer that was exported to the first view, though. So the view has an export
    of its own, on the memory; that one can be released only when all that came from the view is
    gone. PickleBuffer is what makes it a new export: a memoryview of a memoryview shares the old.
    """
    memory = ring[start:stop]
    return memoryview(PickleBuffer(memory)), memory


def still_in_use(what: str) -> BufferError:
    """Say why lent memory cannot be taken back."""
    return BufferError(
        f"the payload of {what} is still in use: a slice of it, or an array made from it, is "
        "alive; delete that first, or make it from a copy, bytes(payload)"
    )
