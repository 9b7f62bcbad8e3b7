# SPDX-License-Identifier: MIT
"""The dtype of records as text, in the words of a `.npy` file's header."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from ringbell.errors import LayoutMismatch

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


def record_dtype(wanted: DTypeLike) -> np.dtype[Any]:
    """Make a dtype whose values can lie in shared memory.

    Raises TypeError for what is no dtype and ValueError for one with objects or of size zero.
    """
    dtype = np.dtype(wanted)
    if dtype.hasobject:
        raise ValueError(
            f"records of {dtype} hold Python objects, which live in one process only; use "
            "numbers, fixed-length strings such as 'S16', or send pickled messages"
        )
    if dtype.itemsize == 0:
        raise ValueError(f"records of {dtype} have no bytes; give its strings or fields a size")
    return dtype


def describe(dtype: np.dtype[Any]) -> bytes:
    """Write a dtype as text, as the header of a `.npy` file does (NumPy Enhancement Proposal 1).

    Raises ValueError for a dtype that cannot be made again from its text.
    """
    try:
        text = repr(_as_description(dtype)).encode()
        if restore(text, dtype.itemsize) == dtype:
            return text
    except (ValueError, TypeError, LayoutMismatch):
        pass
    raise ValueError(
        f"the dtype {dtype} cannot be described to another process; fields must not overlap and "
        "stand in the order of their offsets"
    )


def _as_description(dtype: np.dtype[Any]) -> Any:  # noqa: ANN401  (a string or nested lists)
    if dtype.subdtype is not None:
        return (_as_description(dtype.base), dtype.shape)
    return npy.dtype_to_descr(dtype)


def restore(text: bytes, size: int) -> np.dtype[Any]:
    """Make the dtype that `describe` wrote; LayoutMismatch when it is no dtype of `size` bytes."""
    try:
        dtype = record_dtype(npy.descr_to_dtype(ast.literal_eval(text.decode())))
        if dtype.itemsize == size:
            return dtype
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        SyntaxError,
        MemoryError,
        RecursionError,
    ):
        pass
    raise LayoutMismatch(
        f"the other side describes its records by {text[:80]!r}, which is no dtype of {size} bytes "
        "here; install the same releases of ringbell and NumPy on both sides"
    )
