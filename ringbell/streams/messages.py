# SPDX-License-Identifier: MIT
"""The two sides of a stream of messages."""

from __future__ import annotations

import io

from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.streams.binary_files import read_file, write_file
from ringbell.streams.stream import ProducingStream, Stream


class MessageProducer(ProducingStream, Producer):
    """Sends messages one way; made by `produce`. A context manager.

    An exception that leaves its `with` block gives the stream up: the consumer gets PeerLost.
    """

    __slots__ = ()

    def as_file(self) -> io.RawIOBase:
        """Give a binary file: what is written there is sent at once, in messages of any size.

        `with pyarrow.ipc.new_stream(producer.as_file(), schema) as writer: ...`. Nothing is kept
        back, so `flush` does nothing. `write` blocks while the ring is full, sends all, and raises
        what `send` raises. Closing the file does not end the stream, as it is closed when it is
        dropped, also by an exception: the producer's `close` or the end of its block does, and the
        consumer's file ends there.
        """
        return write_file(self)


class MessageConsumer(Stream, Consumer):
    """Receives messages one way; made by `consume`. A context manager."""

    __slots__ = ()

    def as_file(self) -> io.BufferedReader:
        """Give a binary file: the bytes of all messages, one after the other.

        `pyarrow.ipc.open_stream(consumer.as_file())`. `read(n)` blocks until there are `n` bytes
        or the producer has closed, which is the end of the file; `read1(n)` gives what has arrived.
        Raises PeerLost when the producer died or gave up, after all that it sent has been read by
        `read1`; ValueError when something else has been taken from this end in between. The file
        reads ahead, and like any such file it loses what an interrupted `read` had gathered.
        Closing it does not close this end.
        """
        return read_file(self)
