# SPDX-License-Identifier: MIT
"""A `with` block that closes what it was entered with."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """The context manager of whatever has a `close`; the base of `Side` and `Listener`."""

    __slots__ = ()

    def close(self) -> None:
        """Be closed; more than once does nothing."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
