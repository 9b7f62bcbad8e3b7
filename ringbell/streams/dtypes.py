# SPDX-License-Identifier: MIT
"""The dtype of records as text, in the words of a `.npy` file's header."""

from __future__ import annotations

import ast
import importlib
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell.errors import LayoutMismatch

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

_PACKAGE = "ml_dtypes"  # its dtypes can be made again from their names
_NAMES = r"'(bfloat16|float[468]_\w+|u?int[124])'"


def make_dtype(wanted: DTypeLike) -> np.dtype[Any]:
    """Make a dtype, also of names that NumPy knows once ml_dtypes is loaded, such as `"bfloat16"`.

    Raises what `numpy.dtype` raises.
    """
    try:
        return np.dtype(wanted)
    except TypeError as error:
        try:
            importlib.import_module(_PACKAGE)
        except ImportError:
            if not re.search(_NAMES, str(error)):
                raise error from None
            text = f"{error}; it needs the package {_PACKAGE}, which cannot be imported here"
            raise TypeError(text) from None
    return np.dtype(wanted)


def record_dtype(wanted: DTypeLike) -> np.dtype[Any]:
    """Make a dtype whose values can lie in shared memory.

    Raises TypeError or ValueError if it is no dtype, ValueError for a dtype with objects or of size
    zero.
    """
    try:
        dtype = make_dtype(wanted)
    except TypeError as error:
        raise TypeError(f"{wanted!r} is no dtype: {error}") from None
    except (ValueError, ArithmeticError, LookupError, SyntaxError) as error:
        raise ValueError(f"{wanted!r} is no dtype: {error}") from None
    if dtype.hasobject:
        raise ValueError(
            f"records of {dtype} hold Python objects, which live in one process only; use "
            "numbers, fixed-length strings such as 'S16', or send pickled messages"
        )
    if dtype.itemsize == 0:
        raise ValueError(f"records of {dtype} have no bytes; give its strings or fields a size")
    return dtype


def is_custom(dtype: np.dtype[Any]) -> bool:
    """Whether a package other than NumPy made this dtype, as ml_dtypes made bfloat16."""
    if dtype.names or dtype.subdtype:
        return False
    return dtype.isbuiltin == 2 or type(dtype).__module__.partition(".")[0] != "numpy"


# ---- as text ----


def describe(dtype: np.dtype[Any]) -> bytes:
    """Write a dtype as text, as the header of a `.npy` file does (NumPy Enhancement Proposal 1).

    Two things are ours, as a `.npy` file cannot say them: `{'aligned': fields}` is a structure made
    with `align=True`, and `'ml_dtypes.bfloat16'` is a dtype of that package. Warns that metadata is
    left out. Raises ValueError for a dtype that cannot be made again from its text.
    """
    if _has_metadata(dtype):
        warnings.warn(
            f"the metadata of the dtype {dtype} is not sent to the other process",
            UserWarning,
            stacklevel=4,  # of who called produce or publish
        )
    text = repr(_as_description(dtype)).encode()
    try:
        if restore(text, dtype.itemsize) == dtype:
            return text
    except LayoutMismatch:
        pass
    raise ValueError(f"the dtype {dtype} cannot be made again in another process from its text")


def _as_description(dtype: np.dtype[Any]) -> Any:  # noqa: ANN401  (a string or nested lists)
    if dtype.subdtype is not None:
        return (_as_description(dtype.base), dtype.shape)
    if is_custom(dtype):
        return _name_of_custom(dtype)
    if dtype.fields is None:
        return dtype.str
    fields, end = [], 0
    of_name: Any = dtype.fields
    for name in dtype.names or ():
        field, offset, *title = of_name[name]
        if offset < end:
            raise ValueError(
                f"the dtype {dtype} cannot be described to another process; its fields must not "
                "overlap, and must be in the order of their offsets; if the fields were picked "
                "out of an array, array[['b', 'a']], repack the dtype and the array with "
                "numpy.lib.recfunctions.repack_fields"
            )
        fields += _padding(offset - end)
        fields.append(((title[0], name) if title else name, *_as_field(field)))
        end = offset + field.itemsize
    fields += _padding(dtype.itemsize - end)
    return {"aligned": fields} if dtype.isalignedstruct else fields


def _as_field(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    if dtype.subdtype is None:
        return (_as_description(dtype),)
    return (_as_description(dtype.base), dtype.shape)


def _padding(size: int) -> list[tuple[Any, ...]]:
    return [("", f"|V{size}")] if size else []


def _name_of_custom(dtype: np.dtype[Any]) -> str:
    package = dtype.type.__module__.partition(".")[0]
    if package != _PACKAGE:
        raise ValueError(
            f"the dtype {dtype} is made by the package {package}; only NumPy's own dtypes and "
            f"those of {_PACKAGE} can be made again in another process; convert the numbers to "
            "one of these"
        )
    return f"{_PACKAGE}.{dtype.name}"


def _has_metadata(dtype: np.dtype[Any]) -> bool:
    if dtype.metadata:
        return True
    if dtype.subdtype is not None:
        return _has_metadata(dtype.base)
    return any(_has_metadata(field[0]) for field in (dtype.fields or {}).values())


# ---- from text ----


class NotInstalledError(LayoutMismatch):
    """The dtype belongs to a package that cannot be imported in this process."""


def restore(text: bytes, size: int) -> np.dtype[Any]:
    """Make the dtype from the text of `describe`.

    Raises LayoutMismatch when the text gives no dtype of `size` bytes, and NotInstalledError.
    """
    try:
        dtype = record_dtype(_from_description(ast.literal_eval(text.decode())))
        if dtype.itemsize == size:
            return dtype
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        AttributeError,
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


def _from_description(text: Any) -> np.dtype[Any]:  # noqa: ANN401  (whatever came)
    if isinstance(text, str):
        return _custom(text) if text.startswith(f"{_PACKAGE}.") else np.dtype(text)
    if isinstance(text, tuple):
        base, shape = text
        return np.dtype((_from_description(base), shape))
    if isinstance(text, dict):
        return _structure(text["aligned"], align=True)
    return _structure(text, align=False)


def _custom(name: str) -> np.dtype[Any]:
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError:
        raise NotInstalledError(
            f"the records are of a dtype of {_PACKAGE}, which cannot be imported here; install it "
            "on both sides"
        ) from None
    dtype: np.dtype[Any] = np.dtype(getattr(package, name.partition(".")[2]))
    if not is_custom(dtype):
        raise TypeError(name)
    return dtype


def _structure(fields: list[tuple[Any, ...]], align: bool) -> np.dtype[Any]:
    names, titles, formats, offsets, end = [], [], [], [], 0
    for name, *described in fields:
        base, *shape = described
        field = _from_description((base, *shape) if shape else base)
        if name != "":
            title, name = name if isinstance(name, tuple) else (None, name)
            names.append(name)
            titles.append(title)
            formats.append(field)
            offsets.append(end)
        end += field.itemsize
    wanted: Any = {
        "names": names,
        "titles": titles,
        "formats": formats,
        "offsets": offsets,
        "itemsize": end,
    }
    dtype: np.dtype[Any] = np.dtype(wanted, align=align)
    return dtype
