# SPDX-License-Identifier: MIT
"""Records made of Python values, such as a list of tuples, without changing any value.

NumPy cuts fractions and strings, lets integers wrap, turns None into NaN, and fills all fields of
a record with one number, mostly silently. Here each of these is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell.streams.arrays import refuse_missing
from ringbell.streams.dtypes import is_custom

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ZONE = re.compile(r"[T ].*[Z+-]")  # in a time as text
_MOST_DIMENSIONS = 64  # NumPy's own bound; a list that holds itself has no end


def from_values(rows: Any, dtype: np.dtype[Any]) -> NDArray[Any]:  # noqa: ANN401
    """Make an array of one record, or of lists of records, nested to any depth.

    `dtype` is no sub-array. Raises TypeError for values of another kind, OverflowError or
    ValueError for values that do not fit, ValueError for lists of unequal lengths.
    """
    leaves, shape = _unpack([rows], dtype)
    return _converted(leaves, dtype, "").reshape(shape[1:])


# ---- lists taken apart ----


def _unpack(values: list[Any], dtype: np.dtype[Any]) -> tuple[list[Any], tuple[int, ...]]:
    """Give the values of nested lists, one after the other, and the shape of the nesting."""
    shape: tuple[int, ...] = (len(values),)
    while values:
        kinds = set(map(type, values))
        if any(map(_is_array, kinds)):
            values = _as_arrays(values, kinds)
            kinds = set(map(type, values))
        nested = {kind for kind in kinds if _holds_more(kind, dtype)}
        if not nested:
            break
        lengths = {len(value) for value in values} if nested == kinds else set()
        if len(lengths) != 1 or len(shape) > _MOST_DIMENSIONS:
            raise ValueError("the rows have an inhomogeneous shape: lists differ in length")
        values = [inner for value in values for inner in value]
        shape += (*lengths,)
    return values, shape


def _as_arrays(values: list[Any], kinds: set[type]) -> list[Any]:
    """Turn arrays of any library into NumPy's; refuse arrays with a mask."""
    if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
        raise TypeError("a part of the rows is masked, and a mask is not sent; use filled()")
    for value in values:
        if _is_array(type(value)):
            refuse_missing(value)
    arrays = [np.asarray(value) if _is_array(type(value)) else value for value in values]
    return [
        value[()] if isinstance(value, np.ndarray) and not value.ndim else value for value in arrays
    ]


def _is_array(kind: type) -> bool:
    return kind is memoryview or (hasattr(kind, "__array__") and not issubclass(kind, np.generic))


def _holds_more(kind: type, dtype: np.dtype[Any]) -> bool:
    """Whether values of this kind are lists of more values; a record is a tuple."""
    if issubclass(kind, np.ndarray):
        return True
    ends = (str, bytes, tuple) if dtype.names else (str, bytes)
    return issubclass(kind, Sequence) and not issubclass(kind, ends)


# ---- records ----


def _converted(leaves: list[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    """Make an array of one dimension; `where` names the field in errors."""
    if not dtype.names:
        return _converted_plain(leaves, dtype, where)
    for kind in set(map(type, leaves)):
        _check_record(_first_of(kind, leaves), dtype, where)
    if wrong := {len(leaf) for leaf in leaves} - {len(dtype.names)}:
        raise ValueError(
            f"{where}a record has {len(dtype.names)} fields, one of the rows has {wrong.pop()}"
        )
    made = np.zeros(len(leaves), dtype)
    for i, name in enumerate(dtype.names):
        field = f"{where.removesuffix(': ')}.{name}: " if where else f"field {name}: "
        column = made[name]
        values, shape = _unpack([leaf[i] for leaf in leaves], column.dtype)
        if leaves and shape != column.shape:
            raise ValueError(f"{field}its shape is {column.shape[1:]}, not {shape[1:]}")
        column[...] = _converted(values, column.dtype, field).reshape(column.shape)
    return made


def _check_record(value: Any, dtype: np.dtype[Any], where: str) -> None:  # noqa: ANN401
    if isinstance(value, np.void):
        if value.dtype != dtype:
            raise TypeError(f"{where}a record is of dtype {value.dtype}, not of {dtype}")
    elif isinstance(value, tuple):
        names: Any = getattr(value, "_fields", dtype.names)  # of a named tuple
        if names != dtype.names and sorted(map(str, names)) == sorted(dtype.names or ()):
            raise TypeError(
                f"{where}a record is a tuple of its fields in their order {dtype.names}, and the "
                f"order of this one is {names}: tuple(getattr(row, name) for name in "
                "stream.dtype.names)"
            )
    else:
        how = "tuple(row[name] for name in stream.dtype.names)"
        raise TypeError(
            f"{where}a record is a tuple of its fields in their order {dtype.names}, not "
            f"{type(value).__name__}{': ' + how if isinstance(value, dict) else ''}"
        )


# ---- plain values ----


def _converted_plain(leaves: list[Any], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
    takes = _TAKES["custom" if is_custom(dtype) else dtype.kind]
    kinds = set(map(type, leaves))
    for kind in kinds:
        if not takes(kind, dtype):
            raise _wrong_kind(_first_of(kind, leaves), dtype, where)
    if dtype.kind in "Mm" and _have_timezone(leaves):
        raise TypeError(
            f"{where}a time with a timezone is not sent; convert it to UTC and drop the timezone, "
            "time.astimezone(timezone.utc).replace(tzinfo=None)"
        )
    if takes is _octets:
        leaves = [bytes(leaf) for leaf in leaves]
    elif takes in (_time, _span):
        # NumPy takes those of pandas for Python's, which have no nanoseconds and no NaT.
        leaves = [leaf.to_numpy() if hasattr(leaf, "to_numpy") else leaf for leaf in leaves]
    try:
        with np.errstate(all="ignore"):
            made = np.array(leaves, dtype)
    except OverflowError as error:
        raise OverflowError(f"{where}{error}") from None
    except (TypeError, ValueError) as error:
        again = TypeError if isinstance(error, TypeError) else ValueError
        raise again(f"{where}{error}") from None
    if made.dtype != dtype and any(leaves):
        raise TypeError(
            f"{where}{leaves[0]!r} is {made.dtype}, and {dtype} says no unit or length; make the "
            "stream with a dtype that does"
        )
    if not _are_equal(leaves, kinds, made) and not _are_kept(leaves, made):
        for given, got in zip(leaves, made, strict=True):
            _check_kept(given, got, dtype, where)
    return made


def _have_timezone(leaves: list[Any]) -> bool:
    return any(
        _ZONE.search(leaf) if isinstance(leaf, str) else getattr(leaf, "tzinfo", None) is not None
        for leaf in leaves
    )


def _first_of(kind: type, leaves: list[Any]) -> Any:  # noqa: ANN401
    return next(leaf for leaf in leaves if type(leaf) is kind)


def _whole(kind: type, _dtype: np.dtype[Any]) -> bool:
    return hasattr(kind, "__index__") or issubclass(kind, np.bool_)


def _real(kind: type, dtype: np.dtype[Any]) -> bool:
    if issubclass(kind, (float, np.floating)) or _whole(kind, dtype):
        return True
    return issubclass(kind, np.generic) and is_custom(np.dtype(kind))


def _complex(kind: type, dtype: np.dtype[Any]) -> bool:
    return issubclass(kind, (complex, np.complexfloating)) or _real(kind, dtype)


def _text(kind: type, _dtype: np.dtype[Any]) -> bool:
    return issubclass(kind, (str, bytes))


def _octets(kind: type, _dtype: np.dtype[Any]) -> bool:
    return issubclass(kind, (bytes, np.void))


def _time(kind: type, dtype: np.dtype[Any]) -> bool:
    return issubclass(kind, (np.datetime64, date, str)) or _whole(kind, dtype)


def _span(kind: type, dtype: np.dtype[Any]) -> bool:
    return issubclass(kind, (np.timedelta64, timedelta)) or _whole(kind, dtype)


def _custom(kind: type, dtype: np.dtype[Any]) -> bool:
    return kind is dtype.type or (_whole if _holds_whole(dtype) else _real)(kind, dtype)


# What values of a dtype are made from, by its kind.
_TAKES: dict[str, Callable[[type, np.dtype[Any]], bool]] = {
    "b": _whole,
    "i": _whole,
    "u": _whole,
    "f": _real,
    "c": _complex,
    "S": _text,
    "U": _text,
    "V": _octets,
    "M": _time,
    "m": _span,
    "custom": _custom,
}


def _holds_whole(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype has whole numbers only; other packages do not say, so one value is tried."""
    if not is_custom(dtype):
        return dtype.kind in "biu"
    return bool(np.array(0.5).astype(dtype).astype("f8") != 0.5)


def _wrong_kind(value: Any, dtype: np.dtype[Any], where: str) -> Exception:  # noqa: ANN401
    if isinstance(value, (str, bytes)):
        return ValueError(f"{where}invalid literal for {dtype}: {value!r}; convert it first")
    if _holds_whole(dtype) and isinstance(value, (float, np.inexact, complex)):
        return TypeError(
            f"{where}the rows are fractions ({value!r}), the stream's records {dtype}; convert "
            f"them, np.array(rows, {str(dtype)!r})"
        )
    return TypeError(
        f"{where}{value!r} is a {type(value).__name__}, which cannot become a {dtype}; convert it "
        "first"
    )


def _are_equal(leaves: list[Any], kinds: set[type], made: NDArray[Any]) -> bool:
    """Whether all values are the same as before, as far as Python compares them exactly."""
    if any(issubclass(kind, np.integer) for kind in kinds):
        # NumPy rounds an integer of its own to compare it with a float; Python does not.
        leaves = [leaf.item() if isinstance(leaf, np.integer) else leaf for leaf in leaves]
    return made.dtype.char not in "gG" and bool(made.tolist() == leaves)  # those stay NumPy's


def _are_kept(leaves: list[Any], made: NDArray[Any]) -> bool:
    """Whether all values are unchanged, checked at once; False where each must be checked alone."""
    kinds = set(map(type, leaves))
    if kinds <= {float, np.float64} and made.dtype.kind != "c":
        given, got = np.array(leaves, "f8"), made.astype("f8")
        return bool(np.all(_are_rounded(given, got)))
    if kinds in ({datetime}, {timedelta}, {np.datetime64}, {np.timedelta64}):
        unit = "[us]" if kinds & {datetime, timedelta} else ""  # else the finest of them
        times = np.array(leaves, f"{made.dtype.kind}8{unit}")
        return bool((made.astype(times.dtype) == times).all())
    return False


def _check_kept(given: Any, got: Any, dtype: np.dtype[Any], where: str) -> None:  # noqa: ANN401
    """Refuse a value that the conversion has changed; a float may be rounded."""
    if dtype.kind in "Mm" and not is_custom(dtype):
        kept = _is_same_time(given, got)
    elif dtype.kind in "SU":
        text = given if isinstance(got, bytes) == isinstance(given, bytes) else _recoded(given)
        kept = got == text
    elif dtype.kind == "V" and not is_custom(dtype):
        kept = given == bytes(got)
    elif _whole(type(given), dtype):
        kept = _is_same_whole(int(given), got)
    else:
        kept = _is_rounded(given, got)
    if not kept:
        error = ValueError if dtype.kind in "SUV" and not is_custom(dtype) else OverflowError
        raise error(
            f"{where}{given!r} does not fit {dtype}: it would become {got!r}; convert it, or make "
            "the stream with a larger dtype"
        )


def _is_same_whole(given: int, got: Any) -> bool:  # noqa: ANN401
    """Whether a number of NumPy is this integer; as integers, because floats compare rounded."""
    real, imaginary = (got.real, got.imag) if isinstance(got, np.complexfloating) else (got, 0)
    return bool(np.isfinite(real)) and int(real) == given and not imaginary


def _recoded(given: str | bytes) -> str | bytes:
    return given.decode("ascii") if isinstance(given, bytes) else given.encode("ascii")


def _is_rounded(given: Any, got: Any) -> bool:  # noqa: ANN401
    """Whether one number is the other one, rounded."""
    pairs = ((given.real, got.real), (given.imag, got.imag))
    with np.errstate(all="ignore"):
        return all(_are_rounded(_of_numpy(one), _of_numpy(other)) for one, other in pairs)


def _of_numpy(number: Any) -> Any:  # noqa: ANN401
    """Give a number that NumPy computes with; those of other packages become floats."""
    return number if type(number).__module__ == "numpy" else float(number)


def _are_rounded(given: Any, got: Any) -> Any:  # noqa: ANN401
    """Whether numbers are others, rounded: both are finite, infinite or NaN.

    Small dtypes have a largest number instead of infinity: rounding does not halve a number.
    """
    same = (np.isnan(given) == np.isnan(got)) & (np.isinf(given) == np.isinf(got))
    return same & ((got == 0) | ~(np.abs(given) > 2 * np.abs(got)))


def _is_same_time(given: Any, got: Any) -> bool:  # noqa: ANN401
    """Whether a time is the same once it is converted back to the unit it was given in."""
    if _whole(type(given), got.dtype):  # the least one is NaT
        return bool(got.view("i8") == given) and not np.isnat(got)
    if isinstance(given, (str, datetime)):
        given = np.datetime64(given)
    elif isinstance(given, date):
        given = np.datetime64(given, "D")
    elif isinstance(given, timedelta):
        given = np.timedelta64(given)
    if np.isnat(given) or np.isnat(got):
        return bool(np.isnat(given) and np.isnat(got))
    return bool(got.astype(given.dtype) == given)
