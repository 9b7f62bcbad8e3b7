# SPDX-License-Identifier: MIT
"""Array files, `.npy`: what is in one, and its header."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell.command.files import is_array_file, is_pipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


def load(file: Path) -> NDArray[Any]:
    """Map an array file. Raises ValueError if it is none, or holds objects or several arrays."""
    try:
        if is_pipe(file):
            raise ValueError("it is a folder, a pipe or a device, not a file")
        with file.open("rb") as begun:
            if begun.read(4) not in (b"", b"\x93NUM", b"PK\3\4"):
                raise ValueError("it does not begin as one; name it otherwise to send its bytes")
        rows: Any = np.load(file, mmap_mode="r", allow_pickle=False)
        if not isinstance(rows, np.ndarray):
            rows.close()
            raise ValueError("it holds several arrays; rename it to .npz")
        if (more := file.stat().st_size - _end_of(rows)) > 0:
            raise ValueError(f"{more} bytes follow its array; save one array in a file")
    except (EOFError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"{file} cannot be read as an array file: {why}") from None
    return rows


def _end_of(rows: Any) -> int:  # noqa: ANN401  (a numpy.memmap)
    return int(rows.offset) + int(rows.nbytes)


def rows_dtype(rows: NDArray[Any], file: Path) -> np.dtype[Any]:
    """Give the dtype of one row: a value, or a sub-array if there are more dimensions."""
    if not rows.ndim:
        raise ValueError(
            f"{file} holds a single value, not an array of rows; save numpy.atleast_1d(value) "
            "instead"
        )
    return np.dtype((rows.dtype, rows.shape[1:]))


def lost_order(files: Iterable[Path]) -> list[Path]:
    """Name the array files that are in column order; they arrive in row order."""
    arrays = {file: load(file) for file in files if is_array_file(file)}
    return [file for file, rows in arrays.items() if not rows.flags.c_contiguous]


def says(header: bytes, dtype: np.dtype[Any]) -> bool:
    """Whether an array file with this header has records of this dtype."""
    try:
        return bool(np.load(BytesIO(header)).dtype == dtype.base)
    except ValueError:
        return False


def npy_header(dtype: np.dtype[Any], rows: int) -> bytes:
    """Give the header of an array file; its length does not depend on the number of rows.

    NumPy writes the header of an empty array and leaves room for the number.
    """
    written = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of any script want a new version of the format
        np.save(written, np.empty(0, dtype))
    header = written.getvalue()
    before, shape, after = header.rpartition(b"'shape': (0,")
    grown = before + shape.replace(b"0", b"%d" % rows) + after
    return grown.rstrip(b" \n").ljust(len(header) - 1) + b"\n"
