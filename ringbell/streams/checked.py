# SPDX-License-Identifier: MIT
"""Borrowed records that raise when they are used after their step; for tests and development.

A `memoryview` can be taken back from its user; an array cannot. So each step of a checked consumer
lends a copy in memory of its own. Before Python uses this array, it checks whether its step is
over. C code, or a plain array that was made from it, does not ask. It finds a pattern in the
memory after the step: NaN, NaT, or bytes of 0xDB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PATTERN = 0xDB
# Attributes that do not use the records. NumPy and debuggers ask for them after the step, too.
_MAY_BE_ASKED = frozenset({"base", "flags", "shape", "size", "ndim", "dtype", "itemsize", "nbytes"})


class Step:
    """The memory that one step lent."""

    __slots__ = ("_octets", "is_over", "octets", "start")

    def __init__(self, size: int) -> None:
        self._octets = bytearray(size)
        # An array of bytes comes between, as in rows.py: nobody can make an array of it writable.
        self.octets: NDArray[np.uint8] = np.frombuffer(
            memoryview(self._octets).toreadonly(), np.uint8
        )
        self.start: int = self.octets.ctypes.data
        self.is_over: bool = False

    def fill(self, rows: NDArray[Any]) -> None:
        """Copy the rows to be lent."""
        memoryview(self._octets)[:] = rows.reshape(-1).view(np.uint8).data

    def end(self, dtype: np.dtype[Any]) -> None:
        """Put the pattern where the records were."""
        self.is_over = True
        octets = np.frombuffer(self._octets, np.uint8)
        octets.fill(_PATTERN)
        _spoil(octets.view(dtype.base))

    def holds(self, array: NDArray[Any]) -> bool:
        """Whether an array lies in this memory."""
        start = np.ndarray.__getattribute__(array, "ctypes").data
        return bool(self.start <= start < self.start + len(self._octets))


def _spoil(rows: NDArray[Any]) -> None:
    """Write NaN or NaT into every field that has such a value."""
    if rows.dtype.names:
        for name in rows.dtype.names:
            _spoil(rows[name])
    elif rows.dtype.kind in "fc":
        rows[...] = np.nan
    elif rows.dtype.kind in "mM":
        rows[...] = "NaT"


class CheckedRows(np.ndarray[Any, np.dtype[Any]]):
    """Records of one step; raises RuntimeError when they are used after it."""

    _step: Step | None

    def __array_finalize__(self, origin: Any) -> None:  # noqa: ANN401
        # A copy lies in other memory: it belongs to the user and needs no check.
        step = getattr(origin, "_step", None)
        self._step = step if step is not None and step.holds(self) else None

    def __getattribute__(self, name: str) -> Any:  # noqa: ANN401
        if name[0] != "_" and name not in _MAY_BE_ASKED:
            check(self)
        return super().__getattribute__(name)

    def __array_ufunc__(
        self,
        ufunc: np.ufunc,
        method: str,
        *inputs: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Compute with plain arrays: the result belongs to the user."""
        if "out" in options:
            options["out"] = tuple(map(_plain, options["out"]))
        return getattr(ufunc, method)(*map(_plain, inputs), **options)

    def __array_function__(
        self,
        function: Callable[..., Any],
        kinds: Iterable[type],
        args: Iterable[Any],
        options: Mapping[str, Any],
    ) -> Any:  # noqa: ANN401
        """Check the step of every argument, then let NumPy's function run."""
        for value in (*args, *options.values()):
            for one in value if isinstance(value, (list, tuple)) else (value,):
                check(one)
        return super().__array_function__(function, kinds, args, options)


def _plain(value: Any) -> Any:  # noqa: ANN401
    check(value)
    return value.view(np.ndarray) if isinstance(value, CheckedRows) else value


def check(value: object) -> None:
    """Raise RuntimeError for an array whose step is over."""
    if isinstance(value, CheckedRows) and value._step is not None and value._step.is_over:
        raise RuntimeError(
            "these records were borrowed, and the step that lent them is over: the producer may "
            "overwrite them; keep a copy, rows.copy()"
        )


def _checked(name: str) -> Any:  # noqa: ANN401
    inherited = getattr(np.ndarray, name)

    def method(self: CheckedRows, *args: Any) -> Any:  # noqa: ANN401
        check(self)
        return inherited(self, *args)

    return method


# Python looks these up in the class, so `__getattribute__` does not see them.
for _name in ("getitem", "iter", "repr", "str", "format", "float", "int", "bool", "complex"):
    setattr(CheckedRows, f"__{_name}__", _checked(f"__{_name}__"))
for _name in ("index", "contains", "copy", "deepcopy", "reduce", "reduce_ex"):
    setattr(CheckedRows, f"__{_name}__", _checked(f"__{_name}__"))


class Steps:
    """What a checked consumer has lent: at most one step at a time."""

    __slots__ = ("_dtype", "_step")

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._step: Step | None = None

    def begin(self, rows: NDArray[Any]) -> CheckedRows:
        """Lend a copy of rows that lie in the ring."""
        step = Step(rows.nbytes)
        step.fill(rows)
        lent = np.ndarray.__new__(CheckedRows, len(rows), self._dtype, step.octets)
        lent._step = step
        self._step = step
        return lent

    def end(self) -> None:
        """End the step of the rows lent last. A second call does nothing."""
        if self._step is not None:
            self._step.end(self._dtype)
            self._step = None
