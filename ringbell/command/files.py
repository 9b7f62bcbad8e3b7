# SPDX-License-Identifier: MIT
"""Streams between files and pipes: what `ringbell produce` and `ringbell consume` do."""

from __future__ import annotations

import ast
import errno
import math
import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ringbell._ffi import ffi
from ringbell.command.array_files import (
    check_format,
    is_archive,
    is_array_file,
    load,
    npy_header,
    rows_dtype,
    says,
)
from ringbell.streams.dtypes import make_dtype, record_dtype
from ringbell.streams.messages import MessageConsumer, MessageProducer
from ringbell.streams.record_consumer import RecordConsumer
from ringbell.streams.record_producer import RecordProducer

if TYPE_CHECKING:
    pass

Advance = Callable[[int], None]

STANDARD = Path("-")
_STANDARD_INPUT, _STANDARD_OUTPUT = 0, 1
_PART = 4  # of the ring, so that both sides work at the same time
_LONGEST_READ = 1 << 18


def parse_dtype(text: str) -> np.dtype[Any]:
    """Read a dtype from the command line: `f8`, `i4,f8`, or a list or dict as NumPy takes it.

    Raises ValueError when it is no dtype, or cannot be one of records.
    """
    literal = text.strip()[:1] + text.strip()[-1:] in ("[]", "()", "{}")  # and not M8[s]
    try:
        dtype = make_dtype(ast.literal_eval(text.strip()) if literal else text)
    except (TypeError, ValueError, ArithmeticError, LookupError, SyntaxError) as error:
        why = "it is no list or dict of names and dtypes" if "malformed" in str(error) else error
        raise ValueError(f"{text!r} is no dtype: {why}") from None
    return record_dtype(dtype)


def size_of(files: Iterable[Path]) -> int | None:
    """Say how many bytes will come; None when a pipe or a terminal is among the files.

    Raises OSError when one cannot be read.
    """
    total = 0
    for file in files:
        status = os.fstat(_STANDARD_INPUT) if file == STANDARD else file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file", str(file))
        if file != STANDARD and not os.access(file, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def dtype_of(files: list[Path], dtype: str | None) -> np.dtype[Any] | None:
    """Say what the stream will carry: records of this dtype, or messages.

    Raises ValueError when the files do not agree, OSError when one cannot be read.
    """
    if dtype is not None:
        for file in filter(is_array_file, files):
            raise ValueError(
                f"{file} is an array file, which says its dtype itself; leave --dtype away, or "
                f"send its bytes, the header too: ringbell produce NAME --dtype ... < {file}"
            )
        return parse_dtype(dtype)
    for file in files:
        if is_archive(file):
            raise ValueError(
                f"{file} holds several arrays, and a stream carries one: save each as .npy, or "
                f"send the file's bytes as they are, ringbell produce NAME < {file}"
            )
    arrays = [file for file in files if is_array_file(file)]
    if not arrays:
        return None
    if len(arrays) != len(files):
        raise ValueError(
            ".npy files go as records, other files as bytes; one stream cannot carry both"
        )
    dtypes = {file: rows_dtype(load(file), file) for file in files}
    for file, found in dtypes.items():
        if found != dtypes[files[0]]:
            raise ValueError(f"{file} has the dtype {found}, {files[0]} has {dtypes[files[0]]}")
    return record_dtype(dtypes[files[0]])


def _name_of(file: Path, descriptor: int) -> str:
    """Give the name of a file for an error text."""
    if file != STANDARD:
        return str(file)
    return "standard input" if descriptor == _STANDARD_INPUT else "standard output"


@contextmanager
def _named(file: Path, descriptor: int) -> Iterator[None]:
    """Add the file's name to an OSError."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or _name_of(file, descriptor)
        raise


def _read(source: int, file: Path, into: memoryview) -> int:
    with _named(file, source):
        while True:
            try:
                return os.readv(source, [into])
            except BlockingIOError:  # a parent made it so; the next byte will come
                select.select([source], [], [])


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    if file == STANDARD:
        yield _STANDARD_INPUT
        return
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def produce_files(
    producer: MessageProducer | RecordProducer, files: list[Path], raw: bool, advance: Advance
) -> None:
    """Send the files, one after the other; `raw` when they hold records without a header."""
    for file in files:
        if isinstance(producer, RecordProducer) and not raw:
            _send_array(producer, file, advance)
            continue
        with _opened(file) as source:
            if isinstance(producer, RecordProducer):
                _send_records(producer, source, file, advance)
            else:
                _send_bytes(producer, source, file, advance)
    producer.check_consumer()


def _send_bytes(producer: MessageProducer, source: int, file: Path, advance: Advance) -> None:
    """Read right into the ring; each read sends what it got."""
    size = min(_LONGEST_READ, producer.max_payload // _PART)
    while True:
        with producer.reserve(size) as frame:
            frame.length = _read(source, file, frame.payload)
            if not frame.length:
                frame.abandon()
                return
        advance(frame.length)


def _send_records(
    producer: RecordProducer, source: int, file: Path, advance: Advance, left: float = math.inf
) -> None:
    """Read whole records right into the ring, `left` bytes or all.

    Raises ValueError when a part of a record is left, or when the file ends too early.
    """
    size = producer.dtype.itemsize
    most = max(min(_LONGEST_READ // size, producer.capacity // _PART), 1)
    while left:
        block = producer.reserve(most)
        with block as rows:
            octets = rows.reshape(-1).view("u1").data
            octets = octets[: int(min(len(octets), left))]
            got = _read_whole(source, file, octets, size)
            block.count = got // size
        advance(got)
        left -= got
        if got % size:
            raise ValueError(
                f"{_name_of(file, source)} ends with {got % size} bytes, which are no whole record "
                f"of {size} bytes"
            )
        if not got and math.isfinite(left):
            raise ValueError(f"{file} became shorter meanwhile: {left} bytes of its array are gone")
        if not got:
            return


def _read_whole(source: int, file: Path, octets: memoryview, size: int) -> int:
    """Read whole records, at least one; return the bytes.

    Only at the end of the file may a part of a record be among them.
    """
    got = 0
    while got == 0 or got % size:
        more = _read(source, file, octets[got:])
        if not more:
            break
        got += more
    return got


def _send_array(producer: RecordProducer, file: Path, advance: Advance) -> None:
    rows: Any = load(file)
    if rows.flags.c_contiguous:
        # Read, because a mapped file that became shorter would end the process by SIGBUS.
        with _opened(file) as source:
            os.lseek(source, rows.offset, os.SEEK_SET)
            _send_records(producer, source, file, advance, rows.nbytes)
        return
    step = max(producer.capacity // _PART, 1)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        producer.write(part)
        advance(part.nbytes)


def check_target(file: Path) -> None:
    """Refuse a file that cannot be written, before the stream begins; do not touch it yet."""
    if file == STANDARD:
        return
    if file.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file", str(file))
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(file.parent))


def consume_into(
    consumer: MessageConsumer | RecordConsumer,
    file: Path,
    advance: Advance,
    may_be_binary: bool = True,
) -> None:
    """Write what comes to a file, or to the standard output, until the producer closes.

    Raises ValueError, and takes nothing, when the file cannot be what its name says. Raises
    ValueError before it would write binary data to a terminal, unless `may_be_binary`.
    """
    check_format(consumer, file)
    if file == STANDARD:
        if not may_be_binary and os.isatty(_STANDARD_OUTPUT):
            _write_text(consumer, advance)
        else:
            _write_all(consumer, _STANDARD_OUTPUT, file, advance)
    elif isinstance(consumer, RecordConsumer) and is_array_file(file):
        _write_array(consumer, file, advance)
    else:
        with file.open("wb", buffering=0) as target:
            _write_all(consumer, target.fileno(), file, advance)


def _write_all(
    consumer: MessageConsumer | RecordConsumer, target: int, file: Path, advance: Advance
) -> None:
    for entries in consumer:
        octets = memoryview(ffi.buffer(ffi.from_buffer(entries)))
        _write(target, file, octets)
        advance(len(octets))
        octets.release()


def _write(target: int, file: Path, octets: memoryview) -> None:
    with _named(file, target):
        written = 0
        while written < len(octets):
            try:
                written += os.write(target, octets[written:])
            except BlockingIOError:  # a parent made it so; there will be room
                select.select([], [target], [])


def _write_text(consumer: MessageConsumer | RecordConsumer, advance: Advance) -> None:
    """Write text to a terminal; refuse bytes with a NUL, which no text has."""
    binary = "would go to a terminal; name a FILE, or - to see them all the same"
    if isinstance(consumer, RecordConsumer):
        raise ValueError(f"records of {consumer.dtype} {binary}")
    for payload in consumer:
        if b"\0" in bytes(payload):
            raise ValueError(f"bytes that are no text {binary}")
        _write(_STANDARD_OUTPUT, STANDARD, payload)
        advance(len(payload))


def _write_array(consumer: RecordConsumer, file: Path, advance: Advance) -> None:
    """Write a `.npy` file, whose header gets the number of rows at the end."""
    rows = 0

    def count(octets: int) -> None:
        nonlocal rows
        rows += octets // consumer.dtype.itemsize
        advance(octets)

    header = npy_header(consumer.dtype, 0)
    if not says(header, consumer.dtype):
        raise ValueError(
            f"an array file cannot describe records of {consumer.dtype}; name a file without "
            ".npy, which gets them raw"
        )
    with file.open("wb", buffering=0) as target:
        size = target.write(header)
        try:
            _write_all(consumer, target.fileno(), file, count)
        finally:  # the file is a valid one, whatever ended the stream
            header = npy_header(consumer.dtype, rows)
            assert len(header) == size, "NumPy leaves room for the number of rows"
            os.pwrite(target.fileno(), header, 0)
