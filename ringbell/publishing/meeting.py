# SPDX-License-Identifier: MIT
"""How a subscriber finds the publisher of a name."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

from ringbell.errors import LayoutMismatch
from ringbell.meeting import handshake, segment
from ringbell.meeting.address import hint_about
from ringbell.streams.meeting import ConsumerMeeting

if TYPE_CHECKING:
    from ringbell.channel.channel import Channel
    from ringbell.channel.descriptors import Descriptor, Descriptors

_LONGEST_PAUSE = 0.05  # seconds; no event says that a name has appeared
_log = logging.getLogger("ringbell")


class SubscriberMeeting(ConsumerMeeting):
    """A subscriber looks for its publisher, who has the name and keeps it."""

    role: handshake.Role = "subscriber"
    nobody = "nobody published"

    def _connect(self) -> Descriptor | None:
        control = super()._connect()
        if control is None:
            self._say_once()
            self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)
        return control

    def _listen(self) -> None:
        """Leave the name to the publisher."""

    def _say_once(self) -> None:
        if self._waits and self._what_happens == "waited on":
            self._what_happens = "looked at"
            where = f"{self._path}{hint_about(self._path)}"
            _log.info("waiting for the publisher of %r on %s", self._name, where)

    def _take(self, owned: Descriptors) -> Channel:
        """Take the memory that the publisher offers, and the page that is this side's own."""
        with closing(owned.wake_fds.pop()) as page:
            segment.check_page(page.fileno())
            header = handshake.check_memory(owned, self._check, readers=True)
            self._accept_offer(owned)
            # In one step, so that each descriptor has exactly one owner at any time.
            owned.wake_fds, owned.pools = owned.wake_fds[:2], owned.wake_fds[2:]
            if len(owned.pools) > 1:
                raise LayoutMismatch("the publisher passed more than one pool of blocks")
            return handshake.take_over(owned, header, self.policy, page.fileno())
