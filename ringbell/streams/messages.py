# SPDX-License-Identifier: MIT
"""The two sides of a stream of messages."""

from __future__ import annotations

import io
from typing import BinaryIO

from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.streams.binary_files import read_file, write_file
from ringbell.streams.stream import ProducingStream, Stream


class MessageProducer(ProducingStream, Producer):
    """Sends messages one way; made by `produce`. A context manager.

    An exception that leaves its `with` block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()

    def as_file(self) -> BinaryIO:
        """Give a binary file: `write` sends its bytes at once, as messages of any size.

        `with pyarrow.ipc.new_stream(producer.as_file(), schema) as writer: ...`. Nothing is
        buffered, so `flush` does nothing. `write` blocks while the ring is full, sends all bytes,
        and raises what `send` raises. Closing the file does not end the stream, because Python
        also closes a file that an exception dropped. The producer's `close`, or the end of its
        `with` block, ends the stream, and then the consumer's file ends.
        """
        _refuse_objects(self)
        return write_file(self)


class MessageConsumer(Stream, Consumer):
    """Receives messages one way; made by `consume`. A context manager."""

    __slots__ = ()

    def as_file(self) -> io.BufferedReader:
        """Give a binary file: the bytes of all messages, one after the other.

        `pyarrow.ipc.open_stream(consumer.as_file())`. `read(n)` blocks until there are `n` bytes,
        or until the producer has closed: the file ends there. `read1(n)` gives what has arrived.
        Raises PeerLost when the producer died or gave up; `read1` first gives all that it sent.
        Raises ValueError when this end was used directly while the file had a message in use. The
        file reads ahead. If a signal interrupts `read`, the bytes that it had gathered are lost, as
        in any buffered file. Closing the file does not close this end.
        """
        _refuse_objects(self)
        return read_file(self)


def _refuse_objects(end: Stream) -> None:
    if codec := end._channel.codec:
        raise TypeError(
            f"a file has bytes, and this stream has objects of the codec {codec.name!r}; open it "
            "without a codec"
        )
