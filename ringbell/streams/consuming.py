# SPDX-License-Identifier: MIT
"""From a channel to the end that consumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringbell.streams.messages import MessageConsumer

if TYPE_CHECKING:
    import numpy as np

    from ringbell.channel.channel import Channel
    from ringbell.streams.record_consumer import RecordConsumer


def consume_channel(
    channel: Channel, dtype: np.dtype[Any] | None, checked: bool
) -> MessageConsumer | RecordConsumer:
    """Consume records of a dtype, or messages if that is None; closes the channel if it fails."""
    if dtype is None:
        return MessageConsumer(channel)
    try:
        from ringbell.streams.record_consumer import RecordConsumer

        return RecordConsumer(channel, dtype, checked)
    except BaseException:
        channel.close()
        raise
