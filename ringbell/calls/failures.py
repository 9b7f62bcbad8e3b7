# SPDX-License-Identifier: MIT
"""A handler's exception becomes an answer to the driver and a warning to the operator."""

from __future__ import annotations

import logging
import traceback

_log = logging.getLogger("ringbell")
_MOST_PLACES = 100
_MOST_SHOWN = 10_000  # characters of a text in the log; the driver gets all of it


class Failures:
    """Makes answers of what handlers raise, and counts that by the place that raised."""

    def __init__(self) -> None:
        """Begin with no failures."""
        self._counts: dict[str, int] = {}

    def text_of(self, error: Exception) -> str:
        """Give the text for the driver, and tell the operator."""
        self._tell(error)
        return describe_error(error)

    def _tell(self, error: Exception) -> None:
        place = _place_of(error)
        if place not in self._counts and len(self._counts) >= _MOST_PLACES:
            place = "other places"
        count = self._counts[place] = self._counts.get(place, 0) + 1
        if count == 1:
            # As text, because a record that keeps the exception would keep the payload in use.
            _log.warning(
                "the handler raised, and the driver gets RequestFailed; further exceptions from "
                "%s are only counted\n%s",
                place,
                _shortened(traceback_of(error)),
            )
        elif _is_power_of_ten(count):
            last = _shortened(describe_error(error))
            _log.warning("%s raised %s times; the last: %s", place, f"{count:,}", last)


def _place_of(error: Exception) -> str:
    """Say which line raised it; without a traceback the handler's answer was wrong."""
    trace = error.__traceback__
    if trace is None:
        return "an answer of this kind"
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno},"


def _is_power_of_ten(count: int) -> bool:
    while count % 10 == 0:
        count //= 10
    return count == 1


# The code of an exception's class may raise as well, wherever it is asked for something.


def describe_error(error: BaseException) -> str:
    """Give the name and the text of an exception."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{_name_of(error)}, which has no text"


def _name_of(error: BaseException) -> str:
    try:
        return type(error).__name__
    except Exception:
        return "an exception"


def traceback_of(error: BaseException) -> str:
    """Give its traceback as a text."""
    try:
        return "".join(traceback.format_exception(error)).rstrip()
    except Exception:
        return describe_error(error)


def _shortened(text: str) -> str:
    left_out = len(text) - _MOST_SHOWN
    if left_out <= 0:
        return text
    half = _MOST_SHOWN // 2
    return f"{text[:half]} ... {left_out:,} characters left out ... {text[-half:]}"
