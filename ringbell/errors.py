# SPDX-License-Identifier: MIT
"""The errors. Their classes differ by who has to act: this side, the other side, or nobody."""


class RingbellError(Exception):
    """The base of all others; never raised itself."""


class RingFull(RingbellError, TimeoutError):  # noqa: N818  (named for the state, not the mishap)
    """There was no room within the timeout: the other side is slower than you. Nothing was sent."""


class RingEmpty(RingbellError, TimeoutError):  # noqa: N818
    """Nothing arrived within the timeout. Or nothing can arrive: no request is in flight."""


class EndOfStream(RingbellError, EOFError):  # noqa: N818
    """The other side closed the channel, and all that it sent has been taken."""


class PeerLost(RingbellError, ConnectionError):  # noqa: N818
    """The other side died without closing the channel; all that it sent has been taken.

    It is also raised when an exception left the other side's `with` block (of a producer, a driver
    or a device), or ended its `serve` before all requests were answered. So nobody takes half of
    the data for the whole.
    """


class LetGo(RingbellError, ConnectionError):  # noqa: N818
    """The writer of a publication let this subscriber go, and goes on without it.

    This side had not moved for the writer's `stall` seconds while the ring was full, or it is from
    a process that wrote nonsense. Entries are lost for this side from here on: subscribe again.
    """


class Overwritten(RingbellError):  # noqa: N818
    """What was borrowed has been overwritten meanwhile: the publication keeps the newest only.

    What you computed from it is worth nothing. The next call takes what is whole.
    """


class RequestFailed(RingbellError):  # noqa: N818
    """The device answered that it could not do the request. The message is the device's text."""


class MessageTooLong(RingbellError, MemoryError):  # noqa: N818
    """A message is longer than `max_message`, or than the memory that the machine has available.

    The message is skipped; the next call takes the message behind it. A request or an answer that
    is too long fails instead: the driver gets RequestFailed.
    """


class CorruptRing(RingbellError):  # noqa: N818
    """The other side broke the format of the shared memory. The channel cannot be used any more."""


class LayoutMismatch(RingbellError):  # noqa: N818
    """The two sides do not agree on what the shared memory carries.

    The layout version, the geometry or the dtype differs, or the other side sends messages where
    this side asked for records.
    """


class ChannelClosed(RingbellError):  # noqa: N818
    """You closed the channel, or this process was forked and its parent owns the channel."""
