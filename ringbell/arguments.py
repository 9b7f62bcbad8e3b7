# SPDX-License-Identifier: MIT
"""Checks of options that are numbers, with our own error texts.

A complaint says what the option is: "cpu is the number of a CPU". The value given is added to it.
`csrc/python/arguments.c` does the same for the arguments of the ends.
"""

from __future__ import annotations

import math
import operator
from typing import SupportsFloat, SupportsIndex

_LONGEST = 60  # characters of what was given


def whole_number(value: SupportsIndex, least: int, most: int, complaint: str) -> int:
    """Read an integer; raises TypeError if it is none, ValueError if it is out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{complaint}, not {shown(value)}") from None
    if not least <= number <= most:
        raise ValueError(f"{complaint}, not {shown(value)}")
    return number


def real_number(value: SupportsFloat | SupportsIndex, complaint: str) -> float:
    """Read a number, which may be infinite.

    Raises TypeError if it is no number, ValueError for nan and for an integer too large for a
    float.
    """
    try:
        number = math.ldexp(value, 0)  # unlike float, it reads no text
    except TypeError:
        raise TypeError(f"{complaint}, not {shown(value)}") from None
    except OverflowError:
        raise ValueError(f"{complaint}, not an integer that large") from None
    if number != number:
        raise ValueError(f"{complaint}, not nan")
    return number


def shown(value: object) -> str:
    """Show a value in an error text, shortened if it is long."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "an integer that large"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
