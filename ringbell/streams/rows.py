# SPDX-License-Identifier: MIT
"""A ring's memory as an array of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_at(memory: memoryview, slots: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Look at a ring's memory, two mappings of `slots` records in a row, as one array."""
    # By way of an array of bytes: NumPy goes past a memoryview to what that is a view of, and so
    # would let its user make an array writable again whose memory is not.
    return np.ndarray((2 * slots,), dtype=dtype, buffer=np.asarray(memory))
