# SPDX-License-Identifier: MIT
"""The base class of everything that a `with` block closes."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """A context manager whose `with` block calls `close` at its end.

    A class that sends overrides `_give_up`: if an exception leaves the block, the other side must
    not take that for a regular end.
    """

    __slots__ = ()

    def close(self) -> None:
        """Release everything. Closing twice does nothing."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Close because an exception leaves the block."""
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
