# SPDX-License-Identifier: MIT
"""The reading side of a publication of records."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from ringbell.publishing.lent import Lent
from ringbell.publishing.subscriber import Subscribing
from ringbell.streams.record_consumer import RecordConsumer

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RecordSubscriber(Subscribing, RecordConsumer):
    """Takes the records of a publication; made by `subscribe`. A context manager.

    `for rows in subscriber` gives all that has arrived as one array that lies in the ring, as a
    consumer does; or as a copy if the publication keeps the newest, because an array in the ring
    could be overwritten.
    If the writer lets this side go (`stall`), the next step says so, with LetGo: what the loop was
    lent before that may have been overwritten.
    """

    __slots__ = ()

    def latest(self, timeout: float | None = None) -> Any:  # noqa: ANN401  (what the dtype says)
        """Take the newest record, as a copy, and pass over those before it.

        Gives what an element of an array of the dtype is. If the newest record has been taken
        already, waits for a newer one. Raises what `read` raises.
        """
        return self._latest[1, timeout][0]

    def borrow(  # type: ignore[override]
        self,
        max: int | None = None,  # noqa: A002  (what it is)
        timeout: float | None = None,
    ) -> Lent[NDArray[Any]]:
        """Lend all that has arrived, at most `max` records: `with s.borrow() as rows: ...`.

        The array lies in the ring, and is read-only. Waits and raises as `read` does. See `Lent`.
        """
        lent: Lent[NDArray[Any]] = Lent(self)
        lent._what = self._borrow[max, timeout]
        return lent

    def _end_loan(self, index: int) -> None:
        """Give back what was borrowed. A take in the block may have done that before.

        Then the array is readable still, and the writer may have overwritten it.
        """
        whole = self._is_whole(index)  # before the writer may overwrite it
        self._give_back()
        if not whole:
            self._channel.fail(-errno.ESTALE)
