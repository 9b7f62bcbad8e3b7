# SPDX-License-Identifier: MIT
"""A ring's memory as an array of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def rows_at(memory: memoryview, slots: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Look at a ring's memory, two mappings of `slots` records in a row, as one array."""
    # An array of bytes comes between. From a memoryview NumPy would go on to the object behind the
    # view, and the user could make an array of read-only memory writable.
    return np.ndarray((2 * slots,), dtype=dtype, buffer=np.asarray(memory))
