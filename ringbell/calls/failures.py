# SPDX-License-Identifier: MIT
"""A handler's exception becomes an answer to the driver and a warning to the operator."""

from __future__ import annotations

import gc
import logging
import traceback

from ringbell._ends import Request

_log = logging.getLogger("ringbell")
_MOST_PLACES = 100


class Failures:
    """Answers requests whose handler raised, and counts them by the place that raised."""

    def __init__(self) -> None:
        """Begin with no failures."""
        self._counts: dict[str, int] = {}

    def answer(self, request: Request, error: Exception) -> None:
        """Fail a request with the text of its handler's exception, and tell the operator."""
        self._tell(error)
        text = _describe(error)
        try:
            request.fail(text)
        except BufferError:
            # The frames of the exception's traceback still use the payload.
            error.__traceback__ = None
            del error
            gc.collect()
            request.fail(text)

    def _tell(self, error: Exception) -> None:
        place = _place_of(error)
        if place not in self._counts and len(self._counts) >= _MOST_PLACES:
            place = "other places"
        count = self._counts[place] = self._counts.get(place, 0) + 1
        if count == 1:
            # As text, because a record that keeps the exception would keep the payload in use.
            trace = "".join(traceback.format_exception(error)).rstrip()
            _log.warning(
                "the handler raised, and the driver gets RequestFailed; further exceptions from "
                "%s are only counted\n%s",
                place,
                trace,
            )
        elif _is_power_of_ten(count):
            _log.warning("%s raised %s times; the last: %s", place, f"{count:,}", _describe(error))


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


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return f"{type(error).__name__}, which has no text"
