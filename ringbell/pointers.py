# SPDX-License-Identifier: MIT
"""Which values of ctypes hold pointers. A buffer of ctypes does not always say so.

The format of a union or of a packed structure is that of plain bytes, and the format of a derived
structure leaves out the fields of its base.
"""

from __future__ import annotations

import ctypes
from typing import Any

_POINTERS = "OPXzZ"  # codes of py_object, c_void_p, functions, c_char_p and c_wchar_p


def holds_pointers(kind: Any) -> bool:  # noqa: ANN401
    """Whether values of a class of ctypes hold a pointer, at any depth."""
    if issubclass(kind, ctypes.Array):
        return holds_pointers(kind._type_)
    if issubclass(kind, (ctypes.Structure, ctypes.Union)):
        fields = (field for base in kind.__mro__ for field in vars(base).get("_fields_", ()))
        return any(holds_pointers(field[1]) for field in fields)
    code = getattr(kind, "_type_", None)
    return not isinstance(code, str) or code in _POINTERS  # else a pointer, or a function
