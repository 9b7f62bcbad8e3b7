# SPDX-License-Identifier: MIT
"""A function by its name, `MODULE:FUNCTION`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ringbell.arguments import shown


def check_function(what: str, function: object) -> None:
    """Raise if this is neither a function nor the name of one; imports nothing.

    Raises TypeError, or ValueError for a text that names no function. `what` says in errors what
    the function is for.
    """
    if isinstance(function, str):
        _parts(what, function)
    elif not callable(function):
        raise TypeError(f"the {what} is a function or 'MODULE:FUNCTION', not {shown(function)}")


def load_function(what: str, text: str) -> Callable[..., Any]:
    """Import `MODULE:FUNCTION`. Raises ValueError, which says which part is wrong."""
    module_name, path = _parts(what, text)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever the module's own code raises
        raise ValueError(
            f"cannot import {module_name!r}: {type(error).__name__}: {error}"
        ) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"module {module_name!r} has no {path!r}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{text!r} is a {type(found).__name__}, not a function")
    return found  # type: ignore[no-any-return]


def _parts(what: str, text: str) -> tuple[str, str]:
    module_name, colon, path = text.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"a {what} is MODULE:FUNCTION, like zlib:compress, not {text!r}")
    return module_name, path
