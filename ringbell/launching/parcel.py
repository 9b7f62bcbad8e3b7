# SPDX-License-Identifier: MIT
"""How a function gets into a new process."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ringbell.launching.functions import check_function, load_function


class Parcel:
    """A function for a new process, which opens the parcel itself.

    multiprocessing would unpack the function before any code of ours runs there, and a failure
    would be a traceback on stderr. Here it is an error that can be reported.
    """

    def __init__(self, what: str, function: Callable[..., Any] | str) -> None:
        """Take the function, or its name; raises TypeError or ValueError if it is neither."""
        check_function(what, function)
        self._what = what
        self._content: Any = function
        self._packed = False

    def open(self) -> Callable[..., Any]:
        """Give the function, in the new process. Raises ValueError when it is not there."""
        function = self._content
        if self._packed:
            try:
                function = pickle.loads(self._content)
            except Exception as error:  # whatever the code of its module raises
                raise ValueError(
                    f"the {self._what} cannot be loaded in the new process: "
                    f"{type(error).__name__}: {error}; define it in a module or "
                    "a script file, or use start_method='fork'"
                ) from error
        return load_function(self._what, function) if isinstance(function, str) else function

    def __getstate__(self) -> tuple[str, bytes]:
        try:
            # Not pickle.dumps: this is a part of multiprocessing's pickle, so the function may hold
            # whatever may be passed to a new process, such as a Lock.
            return self._what, bytes(ForkingPickler.dumps(self._content))
        except Exception as error:  # whatever its parts raise
            raise TypeError(
                f"the {self._what} cannot be sent to a new process: {error}; use a function at "
                "the top level of a module, 'MODULE:FUNCTION', or start_method='fork'"
            ) from error

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        self._what, self._content = state
        self._packed = True
