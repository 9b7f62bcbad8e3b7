# SPDX-License-Identifier: MIT
"""Streams of messages as binary files, for libraries that read and write files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

from ringbell.errors import EndOfStream

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from ringbell.streams.messages import MessageConsumer, MessageProducer

_READ_AHEAD = 1 << 16
_PART = 4  # of the ring, so that both sides work at the same time


class _ReadFile(io.RawIOBase):
    """The bytes of a stream's messages, one after the other; made by `as_file`."""

    def __init__(self, consumer: MessageConsumer) -> None:
        self._consumer = consumer
        self._message = memoryview(b"")
        self._read = 0  # of it

    def readable(self) -> bool:
        return True

    def readinto(self, target: WriteableBuffer, /) -> int:
        octets = memoryview(target).cast("B")
        if not octets:
            return 0
        while self._read == len(self._message):  # a message may be empty
            try:
                # As `borrow` does: a signal handler that raises here cannot lose a message.
                self._message = self._consumer._borrow[None]
            except EndOfStream:
                self._message = memoryview(b"")
                self._read = 0
                return 0
            self._read = 0
        count = min(len(octets), len(self._message) - self._read)
        # The next message can be borrowed only when no slice of this one is left.
        with self._message[self._read : self._read + count] as part:
            octets[:count] = part
        self._read += count
        return count


class _WriteFile(io.RawIOBase):
    """Sends what is written at once, as messages; made by `as_file`."""

    def __init__(self, producer: MessageProducer) -> None:
        self._producer = producer

    def writable(self) -> bool:
        return True

    def readinto(self, _target: WriteableBuffer, /) -> int:
        raise io.UnsupportedOperation("this file is for writing")

    def write(self, data: ReadableBuffer, /) -> int:
        if self.closed:
            raise ValueError("write to a closed file")
        whole = memoryview(data)
        if not whole.nbytes:  # an empty view cannot be cast
            return 0
        octets = whole.cast("B")
        most = self._producer.max_payload // _PART
        for start in range(0, len(octets), most):
            self._producer.send(octets[start : start + most])
        return len(octets)


def read_file(consumer: MessageConsumer) -> io.BufferedReader:
    """Read a stream of messages as a file."""
    return io.BufferedReader(_ReadFile(consumer), _READ_AHEAD)


def write_file(producer: MessageProducer) -> BinaryIO:
    """Write a stream of messages as a file."""
    # What wraps a file asks for the type BinaryIO, which RawIOBase is not.
    return cast("BinaryIO", _WriteFile(producer))
