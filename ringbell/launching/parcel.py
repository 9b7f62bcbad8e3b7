# SPDX-License-Identifier: MIT
"""How a function, or a codec, gets into a new process."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from ringbell.codecs import Codec
from ringbell.launching.functions import check_function, load_function


class Parcel:
    """A function for a new process, which opens the parcel itself; or a codec, with two of them.

    multiprocessing would unpack the function before any code of ours runs there, and a failure
    would be a traceback on stderr. Here it is an error that can be reported.
    """

    def __init__(self, what: str, content: Callable[..., Any] | str | Codec | None) -> None:
        """Take a function, or its name, or a codec.

        Raises TypeError or ValueError if it is none of these; None stands for no codec.
        """
        if content is not None and not isinstance(content, Codec):
            check_function(what, content)
        self._what = what
        self._content: Any = content
        self._packed = False

    def open(self) -> Any:  # noqa: ANN401
        """Give what is in it, in the new process. Raises ValueError when that is not there."""
        content = self._content
        if self._packed:
            try:
                content = pickle.loads(self._content)
            except Exception as error:  # whatever the code of its module raises
                raise ValueError(
                    f"the {self._what} cannot be loaded in the new process: "
                    f"{type(error).__name__}: {error}; define it in a module or "
                    "a script file, or use start_method='fork'"
                ) from error
        return load_function(self._what, content) if isinstance(content, str) else content

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
