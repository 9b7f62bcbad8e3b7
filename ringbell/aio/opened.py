# SPDX-License-Identifier: MIT
"""How the functions of this package open an end, and close it at the end of a block."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar

from ringbell.aio.loop import running_loop
from ringbell.aio.side import Closing
from ringbell.aio.threads import meet
from ringbell.arguments import real_number, shown
from ringbell.pinning import pin

_Opened = TypeVar("_Opened", bound=Closing)

LONGEST_POLL = 0.01  # seconds
"""A look holds up all other tasks, so it is short."""


class Opening(Generic[_Opened]):
    """What `connect` and its like give.

    `async with connect(...) as driver:` opens, and closes at the end of the block. `driver = await
    connect(...)` opens, and leaves the closing to you.
    """

    __slots__ = ("_open", "_opened")

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, _Opened]]) -> None:
        """Open by `await open_it()`."""
        self._open = open_it

    def __await__(self) -> Generator[Any, Any, _Opened]:
        return self._open().__await__()

    async def __aenter__(self) -> _Opened:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.__aexit__(kind, error, traceback)


async def meet_pinned(opening: Callable[[], Any], cpu: int | None) -> Any:  # noqa: ANN401
    """Pin the thread of the loop, and meet the other side in another thread."""
    pin(cpu)
    return await meet(running_loop(), opening)


def policy_of(max_poll: float) -> dict[str, Any]:
    """Give the options that make the core look for `max_poll` seconds.

    Its budget is half of the longest one at first. It learns from sleeps only, and here the loop is
    what sleeps, so that is what the budget stays.
    """
    complaint = f"max_poll is from 0 to {LONGEST_POLL} seconds"
    if not 0 <= real_number(max_poll, complaint) <= LONGEST_POLL:
        raise ValueError(f"{complaint}, not {shown(max_poll)}")
    if not max_poll:
        return {"polling": "never"}
    return {"polling": "adaptive", "max_poll": 2 * max_poll}
