# SPDX-License-Identifier: MIT
"""How the producing side of a stream ends."""

from __future__ import annotations

from types import TracebackType

from ringbell.in_use import in_use
from ringbell.stream import Stream


class ProducingStream(Stream):
    """A stream that is given up, not closed, when an exception leaves its `with` block."""

    __slots__ = ()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; but after an exception without a goodbye.

        So a consumer gets PeerLost after what was sent, and does not take half a stream for all
        of it. Raises RuntimeError when another thread is inside.
        """
        if kind is None:
            self.close()
        elif self.inside:
            raise in_use(self)
        else:
            self._channel.close(goodbye=False)
