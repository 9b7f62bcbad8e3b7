# SPDX-License-Identifier: MIT
"""How a gather meets its producers: it keeps the name, and takes all who come."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ringbell.channel.channel import Channel
from ringbell.channel.descriptors import Descriptors
from ringbell.deadlines import deadline_after
from ringbell.meeting import handshake
from ringbell.streams.meeting import ConsumerMeeting

if TYPE_CHECKING:
    import os
    from pathlib import Path

    import numpy as np

    from ringbell.meeting.reception import Guest, Reception
    from ringbell.policy import Policy

_log = logging.getLogger("ringbell")


class GatherMeeting(ConsumerMeeting):
    """A consumer that keeps its name, and takes the streams of many producers, all of one kind."""

    def __init__(
        self,
        name: str | os.PathLike[str],
        path: Path,
        policy: Policy,
        timeout: float | None,
        wanted: np.dtype[Any] | None,
    ) -> None:
        """Prepare to take streams of `wanted` records; None takes what the first one carries."""
        super().__init__(name, path, policy, timeout, _copy(wanted))
        self._timeout_of_each: float | None = timeout
        self._messages = False

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the records; None for messages, and while nobody knows."""
        return _copy(self._wanted)

    def take_name(self) -> tuple[Reception, list[Channel]]:
        """Listen under the name, and give the channels of the producers that waited there.

        The producer that waits has the name. This side connects to it, as any consumer does, and
        the producer frees the name. Another producer may be quicker to take the name; then this
        side connects to that one. Each step leaves one producer less that waits, until the name is
        free for this side. Raises TimeoutError when a producer does not answer in time, and what
        `find_partner` raises.
        """
        channels: list[Channel] = []
        try:
            while True:
                if control := self._connect():
                    if channel := self._approach(control):
                        channels.append(channel)
                        self._decide()
                        self.deadline: float | None = deadline_after(self._timeout_of_each)
                        continue
                elif reception := self._listen():
                    return reception, channels
                self._rest()
        except BaseException as error:
            for channel in channels:
                channel.close()
            if isinstance(error, TimeoutError):
                raise self._timeout() from None
            raise

    def approach(self, owned: Descriptors) -> Channel | None:
        """Take the memory that a producer offers; None when its records are of another kind."""
        try:
            return super().approach(owned)
        except handshake.OtherRecords as error:
            handshake.refuse(owned.control, error)
            _log.warning("refused a producer on %s: %s", self._path, error)
            return None

    def meet(self, guest: Guest) -> Channel:
        """Take the memory that a producer brings, and go on listening."""
        channel = super().meet(guest)
        self._decide()
        return channel

    def free_name(self) -> None:
        """Keep the name: others will come."""

    def _decide(self) -> None:
        """Take no other streams than of the kind of the first one."""
        self._wanted = _copy(self.found)
        self._messages = self.found is None

    def _check(self, description: bytes, slot_size: int) -> None:
        super()._check(description, slot_size)
        if self._messages and self.found is not None:
            raise handshake.OtherRecords(
                f"the stream carries records of {self.found}, and those before it messages"
            )


def _copy(dtype: np.dtype[Any] | None) -> np.dtype[Any] | None:
    """Make a dtype that nobody else has: whoever has one may rename its fields."""
    if dtype is None:
        return None
    from ringbell.streams.dtypes import describe, restore

    return restore(describe(dtype), dtype.itemsize)
