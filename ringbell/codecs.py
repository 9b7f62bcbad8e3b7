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
from typing import TYPE_CHECKING, Any, Final

from ringbell import _ends, tensors
from ringbell.arguments import shown

if TYPE_CHECKING:
    from ringbell._types import AnyCodec, Packing, Payload, PicklerParts, Unpacking

MAGIC: Final = b"ringbell"
_PICKLE = 0x80  # the first byte of a pickle

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

    def __reduce__(self) -> tuple[Callable[..., Codec | None], tuple[Any, ...]]:
        if self.name in _KNOWN:
            return codec_from, (self.name,)
        return Codec, (self.name, self.encode, self.decode)

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


def pickles(pickler: type[pickle.Pickler]) -> _ends.Pickles:
    """Give what makes messages of objects by a kind of pickler, and objects of such messages."""
    return _ends.Pickles(partial(_made, pickler), _joined, pickle.loads, _loaded)


def _made(kind: type[pickle.Pickler], file: _ends.Pickles) -> PicklerParts:
    """Make a pickler that writes to `file`; give its methods, and what it depends on."""
    made = kind(file, 5, True, file.keep)  # ForkingPickler takes no names
    if kind is not pickle.Pickler or not (ours := tensors.reducers()):
        return made.dump, made.clear_memo, None
    made.dispatch_table = {**copyreg.dispatch_table, **ours}
    return made.dump, made.clear_memo, copyreg.dispatch_table


def _joined(written: list[bytes], buffers: list[memoryview] | None) -> _ends.Parts:
    """Make a message of more than one part. A pickle with large bytes in it has several."""
    if not buffers:
        return _ends.Parts([*written])
    lengths = [sum(map(len, written)), *(view.nbytes for view in buffers)]
    head = _HEAD.pack(MAGIC, len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    parts: list[Payload] = [head, *written]
    end = len(head) + lengths[0]
    for view in buffers:
        padding = _padding(end)
        parts += (_PADDING[:padding], view)
        end += padding + view.nbytes
    return _ends.Parts(parts)


def _padding(end: int) -> int:
    return -(end + _FRAME_HEADER) % _ALIGNED


def _loaded(octets: bytes | memoryview) -> Any:  # noqa: ANN401
    """Make the object of a message that is not just a pickle in `bytes`."""
    if octets and octets[0] == _PICKLE:
        return pickle.loads(octets)
    view = _ends.writable(octets) if isinstance(octets, bytes) else octets
    octets, buffers = _taken_apart(view)
    return pickle.loads(octets, buffers=buffers)


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


_plain = pickles(pickle.Pickler)
pack: Packing = _plain.pack
unpack: Unpacking = _plain.unpack
_KNOWN = {"bytes": None, "pickle": Codec("pickle", pack, unpack)}
