# SPDX-License-Identifier: MIT
"""The first use of an end of a pipe: from then on it belongs to this process."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ringbell.channel.channel import Channel
from ringbell.meeting import segment

if TYPE_CHECKING:
    from ringbell.channel.descriptors import Descriptors
    from ringbell.pipes.connection import Connection
    from ringbell.policy import Policy


def claim(owned: Descriptors, side: int, policy: Policy, connection: Connection) -> None:
    """Open one side for this process; the connection gets the channel.

    If a signal handler raises in here, the next call goes on where this one was. Raises OSError
    (EBUSY) if a process has opened it before, and for a lack of memory or of descriptors; then the
    side is as it was.
    """
    assert owned.segment is not None, "a connection keeps it until the first use"
    descriptor = owned.segment.fileno()
    header, _ = segment.check(descriptor)
    try:
        Channel(side, owned, policy, header=header, segment=descriptor, peer_pid=0, pipe=connection)
    except OSError as error:
        if error.errno == errno.EINPROGRESS:
            text = (
                "this process has opened this end of the pipe before, as another object; use that "
                "one, or make another pipe if it is lost"
            )
        elif error.errno == errno.EALREADY:
            text = (
                "another process uses this connection: it belongs to the process that first sends "
                "or receives on it, and every other copy can only be closed"
            )
        else:
            raise
        raise OSError(errno.EBUSY, text) from None
