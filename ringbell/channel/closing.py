# SPDX-License-Identifier: MIT
"""The base of what a `with` block closes."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose `with` block calls `close` at its end."""

    __slots__ = ()

    def close(self) -> None:
        """Give back what is held. Closing twice does nothing."""
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
