# SPDX-License-Identifier: MIT
"""Codecs, which make messages of objects, and the one for pickles.

A pickle of protocol 5 leaves large buffers out: those of arrays, for instance. They follow the
pickle in the same message, each at a multiple of a cache line of the ring:

    MAGIC, the number of buffers, the length of the pickle, the length of each buffer,
    the pickle, padding, the first buffer, padding, the second buffer, ...

All numbers have 8 bytes. A pickle without such buffers is a message by itself.
"""

from __future__ import annotations

import copyreg
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pickle import loads
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from ringbell import _ends, tensors
from ringbell.arguments import shown

if TYPE_CHECKING:
    from ringbell._types import AnyCodec, Payload

    Pickler = Callable[[Any, int, bool, Callable[[pickle.PickleBuffer], object]], pickle.Pickler]

MAGIC: Final = b"ringbell"
_PICKLE = 0x80  # the first byte of a pickle

_SMALL = 4096
"""Bytes. A smaller buffer is a part of the pickle, because that is quicker than its place."""

_HEAD = struct.Struct("<8sQ")
_ALIGNED = 64
_FRAME_HEADER = 16  # of a message in a ring, which begins at a multiple of 64
_PADDING = bytes(_ALIGNED)
_LONGEST_NAME = 200
_WHAT = (
    "codec is 'bytes', 'pickle', or a tuple of two functions (encode, decode) and perhaps a name"
)


@dataclass(frozen=True, slots=True)
class Codec:
    """Two functions that turn objects into buffers, and bytes into objects.

    The two sides of a channel say their codecs' names to each other when they meet.
    """

    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]

    def prepared(self, value: object) -> _ends.Parts:
        """Encode an object once, for ends that may have to try several times to send it."""
        made = self.encode(value)
        if isinstance(made, _ends.Parts):
            return made
        try:
            # A copy, unless they are bytes: a codec may use its buffer again for the next object.
            return _ends.Parts([made if type(made) is bytes else bytes(memoryview(made))])
        except TypeError:
            raise TypeError(
                f"the codec's encode function returned {type(made).__name__}; it has to return "
                "bytes or another buffer"
            ) from None


def prepared(codec: Codec | None, value: Any) -> Any:  # noqa: ANN401
    """Encode an object once; without a codec it is a payload already."""
    return codec.prepared(value) if codec else value


def codec_from(codec: AnyCodec | Codec | None) -> Codec | None:
    """Read the option `codec`; None stands for bytes. Raises TypeError or ValueError."""
    if codec is None or isinstance(codec, Codec):
        return codec
    if isinstance(codec, str):
        if codec not in _KNOWN:
            raise ValueError(f"{_WHAT}, not {shown(codec)}")
        return _KNOWN[codec]
    if not isinstance(codec, tuple) or len(codec) not in (2, 3):
        raise TypeError(f"{_WHAT}, not {shown(codec)}")
    encode, decode, *names = codec
    for function in (encode, decode):
        if not callable(function):
            raise TypeError(f"{_WHAT}; {shown(function)} is no function")
    if not names:
        name = f"{_name_of(encode)}, {_name_of(decode)}"
        return Codec(name[:_LONGEST_NAME], encode, decode)
    name = names[0]
    if not isinstance(name, str):
        raise TypeError(f"the name of a codec is a text, not {shown(name)}")
    if not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_NAME or name in _KNOWN:
        raise ValueError(
            f"the name of a codec is a printable text of 1 to {_LONGEST_NAME} bytes, other than "
            f"{' and '.join(_KNOWN)}, not {shown(name)}"
        )
    return Codec(name, encode, decode)


def _name_of(function: Any) -> str:  # noqa: ANN401
    """Name a function as its module and itself."""
    owner = type(getattr(function, "__self__", None) or function)
    module = getattr(function, "__module__", None) or owner.__module__
    name = getattr(function, "__qualname__", owner.__qualname__)
    return f"{module}.{name}".encode("ascii", "backslashreplace").decode()


def name_of(codec: Codec | None) -> str:
    """Give the name of a codec as the two sides say it."""
    return codec.name if codec else "bytes"


# ---- pickles ----


class _Packer:
    """Makes pickles. One that made a small pickle is used again, because to make it takes as long.

    A large one may have left a large table behind, which would take long to clear each time.
    """

    __slots__ = ("buffers", "clear", "dump", "registered", "written")

    def __init__(self, pickler: Pickler) -> None:
        self.written: list[bytes] = []
        self.buffers: list[memoryview] = []
        file, keep = SimpleNamespace(write=self.written.append), partial(_keep, self.buffers)
        made = pickler(file, 5, True, keep)
        self.dump = made.dump
        self.clear = made.clear_memo
        # How many types `copyreg` knew, if this one has a table of its own instead of that; else 0.
        self.registered = 0
        if pickler is pickle.Pickler and (ours := tensors.reducers()):
            made.dispatch_table = {**copyreg.dispatch_table, **ours}
            self.registered = len(copyreg.dispatch_table)


_idle: dict[Pickler, list[_Packer]] = {}


def _keep(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    """Say whether a buffer is to be a part of the pickle; if not, add it to `buffers`."""
    try:
        view = buffer.raw()
    except BufferError:  # scattered; the pickler refuses it
        return True
    if view.nbytes < _SMALL:
        return True
    buffers.append(view)
    return False


def pack(value: object, pickler: Pickler = pickle.Pickler) -> bytes | _ends.Parts:
    """Make a message of an object.

    Large buffers in it are not copied: they are copied when the message is sent. `pickler` is
    `pickle.Pickler`, or a subclass that pickles in its own way. Raises what that raises.
    """
    try:
        idle = _idle[pickler]
    except KeyError:
        idle = _idle[pickler] = []
    try:
        packer = idle.pop()
        if packer.registered and packer.registered != len(copyreg.dispatch_table):
            packer = _Packer(pickler)
    except IndexError:  # another thread, or a pickle around this one, may have the last one
        packer = _Packer(pickler)
    packer.dump(value)
    packer.clear()
    written, buffers = packer.written, packer.buffers
    if buffers:
        return _ends.Parts(_with_buffers(written, buffers))
    if len(written) > 1:
        return _ends.Parts([*written])
    octets = written.pop()
    if len(octets) < _SMALL:
        idle.append(packer)
    return octets


def _with_buffers(written: list[bytes], buffers: list[memoryview]) -> list[Payload]:
    """Give the parts of a message. A pickle with large bytes in it is written in several parts."""
    lengths = [sum(map(len, written)), *(view.nbytes for view in buffers)]
    head = _HEAD.pack(MAGIC, len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    parts: list[Payload] = [head, *written]
    end = len(head) + lengths[0]
    for view in buffers:
        padding = _padding(end)
        parts += (_PADDING[:padding], view)
        end += padding + view.nbytes
    return parts


def _padding(end: int) -> int:
    return -(end + _FRAME_HEADER) % _ALIGNED


def unpack(octets: bytes | memoryview) -> Any:  # noqa: ANN401
    """Make the object of a message.

    Of `bytes`, which nobody else may have, the arrays become writable views. Of a view they become
    read-only ones of the same memory. Raises what the code of the pickle raises, UnpicklingError
    when it is none.
    """
    if octets and octets[0] == _PICKLE:
        return loads(octets)
    view = _ends.writable(octets) if isinstance(octets, bytes) else octets
    octets, buffers = _taken_apart(view)
    return loads(octets, buffers=buffers)


def _taken_apart(view: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Give the pickle in a message, and its buffers."""
    size = len(view)
    magic, count = _HEAD.unpack_from(view) if size >= _HEAD.size else (b"", 0)
    if magic != MAGIC or count >= size // 8 - 2:
        raise pickle.UnpicklingError("the message is no whole pickle with buffers")
    first, *lengths = struct.unpack_from(f"<{count + 1}Q", view, _HEAD.size)
    begin = _HEAD.size + 8 * (count + 1)
    end = begin + first
    octets, buffers = view[begin:end], []
    for length in lengths:
        begin = end + _padding(end)
        end = begin + length
        buffers.append(view[begin:end])
    if end != size:
        raise pickle.UnpicklingError("the message is no whole pickle with buffers")
    return octets, buffers


_KNOWN = {"bytes": None, "pickle": Codec("pickle", pack, unpack)}
