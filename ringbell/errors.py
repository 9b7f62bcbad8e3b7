# SPDX-License-Identifier: MIT
"""The errors, by whose turn it is to do something about them."""


class RingbellError(Exception):
    """The base of all others; never raised itself."""


class RingFull(RingbellError, TimeoutError):  # noqa: N818  (named for the state, not the mishap)
    """There was no room within the timeout: the other side is slower than you. Nothing was sent."""


class RingEmpty(RingbellError, TimeoutError):  # noqa: N818
    """Nothing arrived within the timeout, or nothing can arrive: no request is in flight."""


class EndOfStream(RingbellError, EOFError):  # noqa: N818
    """The other side closed the channel, and all that it sent has been taken."""


class PeerLost(RingbellError, ConnectionError):  # noqa: N818
    """The other side died without closing the channel; all that it sent has been taken.

    Also when an exception left the `with` block of a producer, a driver or a device, or ended a
    `serve` that had requests to answer, so that nobody takes half of what was meant for the whole.
    """


class RequestFailed(RingbellError):  # noqa: N818
    """The device answered that it could not do the request; the message is what it said."""


class MessageTooLong(RingbellError, MemoryError):  # noqa: N818
    """A message is longer than `max_message`, or than the memory that the machine has available.

    It is skipped; the next call takes the message behind it. Requests and answers that are too long
    fail, instead: the driver gets RequestFailed.
    """


class CorruptRing(RingbellError):  # noqa: N818
    """The other side broke the format of the shared memory. The channel is dead from then on."""


class LayoutMismatch(RingbellError):  # noqa: N818
    """The two sides do not agree on what the shared memory carries.

    Another layout version, geometry or dtype, or messages where records were asked for.
    """


class ChannelClosed(RingbellError):  # noqa: N818
    """You closed the channel, or it belongs to the process that this one was forked from."""
