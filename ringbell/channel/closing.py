# SPDX-License-Identifier: MIT
"""The base of what a `with` block closes."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose `with` block calls `close` at its end.

    What sends something overrides `_give_up`: an exception that leaves the block must not look to
    the other side like an end that was meant.
    """

    __slots__ = ()

    def close(self) -> None:
        """Give back what is held. Closing twice does nothing."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """End it because an exception leaves the block."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._give_up()
