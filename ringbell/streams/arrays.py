# SPDX-License-Identifier: MIT
"""Arrays and tables of other libraries as rows of a stream, and how to convert those that differ.

An array is sent as it is or not at all: its dtype has to be the stream's. NumPy would cast it
where it calls that safe, or of the same kind, and could round values or swap fields silently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REPACK = "numpy.lib.recfunctions.repack_fields"

# Tables, by the package and the name of their class, and how each becomes an array of records.
_TABLES = {
    ("pandas", "DataFrame"): "write(df.to_records(index=False)), with column_dtypes={'name': 'S16'}"
    " for columns of strings",
    (
        "polars",
        "DataFrame",
    ): "write(df.to_numpy(structured=True)), whose strings are as long as the longest one",
    ("polars", "LazyFrame"): "write(df.collect().to_numpy(structured=True))",
    (
        "pyarrow",
        "Table",
    ): "a stream of messages, pyarrow.ipc.new_stream(producer.as_file(), schema)",
    ("pyarrow", "RecordBatch"): "a stream of messages, pyarrow.ipc.new_stream(producer.as_file(), "
    "schema)",
}


def array_of(rows: Any) -> NDArray[Any] | None:  # noqa: ANN401  (whatever `write` was given)
    """Give rows that are an array of any library as one of NumPy; None when they are plain values.

    Raises TypeError for a masked array, a column with missing values, and a table.
    """
    if isinstance(rows, np.ma.MaskedArray):
        raise TypeError("the rows are a masked array, and a mask is not sent; use filled()")
    if isinstance(rows, np.ndarray):
        array: NDArray[Any] = rows.view(np.ndarray)  # which checked records refuse in time
        return array
    if isinstance(rows, np.generic):
        return np.asarray(rows)
    for kind in type(rows).__mro__:
        if how := _TABLES.get((kind.__module__.partition(".")[0], kind.__name__)):
            raise TypeError(f"the rows are a table, {type(rows).__name__}; send it by {how}")
    if hasattr(rows, "__array__") or hasattr(rows, "__array_interface__"):
        refuse_missing(rows)
        return np.asarray(rows)
    if hasattr(rows, "__dlpack__"):
        return np.from_dlpack(rows)
    return None


def refuse_missing(column: Any) -> None:  # noqa: ANN401
    """Refuse a column of pandas, Arrow or polars whose missing values would become NaN."""
    missing = getattr(column, "null_count", 0)  # of Arrow; of polars it is a method
    if callable(missing):
        missing = missing()
    if str(getattr(getattr(column, "dtype", None), "na_value", "")) == "<NA>":  # pandas
        missing = column.isna().sum()
    if missing:
        raise TypeError(
            f"{missing} of the rows are missing, which records cannot say; fill them first "
            "(fillna, fill_null), for instance with NaN"
        )


def how_to_convert(found: np.dtype[Any], wanted: np.dtype[Any]) -> str:
    """Say how to convert rows of one dtype into rows of another one."""
    if found.hasobject:
        return (
            "they hold Python objects (so do columns of strings, categories, missing values and "
            "times with a timezone); make numbers or fixed-length strings of them first"
        )
    if not found.names or not wanted.names:
        return "convert them, rows.astype(...)"
    if set(found.names) != set(wanted.names):
        return f"give them the fields {wanted.names}"
    if any(found[name] != wanted[name] for name in wanted.names):
        return (
            "convert them field by field, made = numpy.zeros(len(rows), dtype); "
            "made['a'] = rows['a'] (astype goes by the order of the fields, not by their names)"
        )
    if found.names != wanted.names:
        return f"bring their fields into the same order, {_REPACK}(rows[{list(wanted.names)}])"
    return f"the fields are the same and lie elsewhere; convert them, {_as_packed(wanted)}"


def _as_packed(wanted: np.dtype[Any]) -> str:
    from numpy.lib import recfunctions

    packed: Any = recfunctions.repack_fields
    return f"{_REPACK}(rows)" if packed(wanted) == wanted else "rows.astype(stream.dtype)"
