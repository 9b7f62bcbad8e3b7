# The stub of the extension that setup.py builds from csrc/python; a test compares the two.
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ringbell._types import Payload as Payload
from ringbell.channel.channel import Channel
from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.streams.checked import Steps

_Key = TypeVar("_Key", contravariant=True)
_Taken = TypeVar("_Taken", covariant=True)
_Result = TypeVar("_Result")
_Many: TypeAlias = tuple[int | None, float | None]

def memory_at(keeper: object, address: int, size: int, read_only: bool, /) -> memoryview: ...
def wait_readable(descriptors: list[int], timeout: float | None, /) -> list[int]: ...

@final
class Taking(Generic[_Key, _Taken]):
    """Takes something from an end when it is subscribed."""
    def __getitem__(self, key: _Key, /) -> _Taken: ...

class End:
    """One end of a ring, for one thread at a time."""
    @property
    def _channel(self) -> Channel: ...
    def _guarded(self, function: Callable[..., _Result], /, *args: Any) -> _Result: ...

class MessageProducer(End):
    """The producing end of a message ring."""
    def __new__(cls, channel: Channel) -> Self: ...
    @property
    def max_payload(self) -> int:
        """The longest payload in bytes that `reserve` can give: all of the ring."""
    def send(self, payload: Payload, token: int = 0, timeout: float | None = None) -> None:
        """Copy one message (any contiguous buffer, of any size) into the ring.

        Blocks while the ring is full, whatever arrives meanwhile (`Driver.submit` takes that
        in); a message larger than half the ring goes through it in pieces.
        Raises RingFull after `timeout` seconds (then nothing of the message arrives),
        EndOfStream or PeerLost when nobody will take it, TypeError for what is not a buffer,
        ChannelClosed after close.
        """
    def send_many(self, payloads: Iterable[Payload], timeout: float | None = None) -> int:
        """Copy many messages into the ring, as many at a time as it has room for.

        The other side sees those at once, and is kicked at most once for them. Blocks while
        the ring is full. Returns how many were sent: all of them, or those that were sent
        when `timeout` seconds are over. Raises RingFull when none was, TypeError for what is
        not a buffer, and what `send` raises; what was sent before an exception arrives.
        """
    def reserve(self, size: int, token: int = 0, timeout: float | None = None) -> Frame:
        """Give room for a message of up to `size` bytes, to be written in place.

        Use it in a `with` block: `with producer.reserve(4096) as frame:
        frame.payload[:] = ...` publishes at its end, or abandons the message when an
        exception leaves the block. Blocks while the ring is full. Raises ValueError when
        `size` is larger than `max_payload`, RingFull after `timeout` seconds, RuntimeError
        when a frame is reserved already, and what `send` raises.
        """

class MessageConsumer(End):
    """The consuming end of a message ring."""
    def __new__(cls, channel: Channel) -> Self: ...
    @property
    def _recv(self) -> Taking[float | None, bytes]: ...
    @property
    def _recv_many(self) -> Taking[_Many, list[bytes]]: ...
    @property
    def _borrow(self) -> Taking[float | None, memoryview]: ...
    def __iter__(self) -> Iterator[memoryview]: ...

class RecordProducer(End):
    """The producing end of a record ring."""
    def __new__(cls, channel: Channel, dtype: np.dtype[Any], rows: NDArray[Any], /) -> Self: ...
    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one record."""
    @property
    def capacity(self) -> int:
        """How many records the ring holds; `reserve` can give all of it."""
    def write(self, rows: ArrayLike, timeout: float | None = None) -> int:
        """Copy records into the ring, as many at a time as it has room for; return how many.

        `rows` is a one-dimensional array of the stream's dtype; or a record, a tuple of its
        fields, or lists of them, whose values become records if nothing in them changes by that
        (a float may be rounded). The consumer sees them at once, and is kicked at most once for
        those that fit. Blocks while the ring is full. That is all of them, or those that were
        written when `timeout` seconds are over. Raises RingFull when none was, TypeError for an
        array of another dtype, a masked array, a table, or values of another kind,
        OverflowError for numbers that do not fit, ValueError for text that does not and for
        another shape, EndOfStream or PeerLost when nobody will take them, ChannelClosed after
        close; what was written before an exception arrives.
        """
    def reserve(self, count: int, timeout: float | None = None) -> RecordBlock:
        """Give room for `count` records, to be written in place.

        `with producer.reserve(1000) as rows: rows["price"] = ...` gives a writable array of
        the stream's dtype, publishes it at the end of the block and abandons it when an
        exception leaves the block. To publish fewer, keep the block:
        `block = producer.reserve(1000)`, `with block as rows: ...; block.count = 10`. Blocks
        while there is no room for all of them. Raises ValueError unless `count` is from 1 to
        `capacity`, RingFull after `timeout` seconds, RuntimeError when a block is reserved
        already, and what `write` raises.
        """

class RecordConsumer(End):
    """The consuming end of a record ring."""
    def __new__(
        cls,
        channel: Channel,
        dtype: np.dtype[Any],
        rows: NDArray[Any],
        steps: Steps | None,
        /,
    ) -> Self: ...
    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one record; the producer chose it."""
    @property
    def capacity(self) -> int:
        """How many records the ring holds."""
    @property
    def _borrow(self) -> Taking[_Many, NDArray[Any]]: ...
    @property
    def _read(self) -> Taking[_Many, NDArray[Any]]: ...
    def __iter__(self) -> Iterator[NDArray[Any]]: ...

class Side:
    """One side of a channel, for one thread at a time."""
    @property
    def _channel(self) -> Channel: ...

class Driver(Side):
    """The side that asks."""
    def __new__(cls, doorbell: Producer, interrupt: Consumer) -> Self: ...
    @property
    def doorbell(self) -> Producer:
        """The producing end of the doorbell ring, for messages that want no completion."""
    @property
    def interrupt(self) -> Consumer:
        """The consuming end of the interrupt ring.

        What it lent by `borrow` is released when this driver takes a completion; BufferError then
        while a part of it is in use.
        """
    @property
    def in_flight(self) -> int:
        """How many requests have no completion yet, or one that `reap` has not handed over."""
    @property
    def _reap(self) -> Taking[float | None, Completion]: ...
    def submit(self, payload: Payload, timeout: float | None = None) -> int:
        """Copy one request (any contiguous buffer, of any size) into the ring; return its token.

        Blocks while the doorbell ring is full; completions that arrive meanwhile are set
        aside for `reap`, so that a device which waits for room itself goes on. Raises
        RingFull after `timeout` seconds (the request was not sent), EndOfStream or PeerLost
        when the device is gone, TypeError for what is not a buffer, ChannelClosed after
        close.
        """
    def call(self, payload: Payload, timeout: float | None = None) -> bytes:
        """Submit one request and wait for its answer, at most `timeout` seconds in all.

        Raises RequestFailed with the device's text when it failed the request, RingFull or
        RingEmpty when the time is over (an answer that comes later is dropped), and what
        `submit` raises.
        """
    def map(
        self, payloads: Iterable[Payload], depth: int = 128, timeout: float | None = None
    ) -> Iterator[bytes]:
        """Submit each payload and yield the answers in the same order, `depth` in flight.

        Payloads are drawn from the iterable as room is there, so it may be endless. `timeout`
        is for each step, in seconds. Raises, at the place of the answer, what `call` raises;
        what is still in flight then, or when the iterator is dropped, is dropped when it
        arrives.
        """
    def reserve(self, size: int, timeout: float | None = None) -> Frame:
        """Give room for a request of up to `size` bytes, to be written in place.

        `with driver.reserve(4096) as frame: frame.payload[:] = ...` submits it at the end of
        the block as `frame.token`; an exception abandons it. Set `frame.length` to send fewer
        bytes. Blocks as `submit` does. Raises ValueError when `size` is larger than
        `max_payload`, and what `submit` raises.
        """

class Device(Side):
    """The side that does."""
    def __new__(cls, doorbell: Consumer, interrupt: Producer) -> Self: ...
    @property
    def doorbell(self) -> Consumer:
        """The consuming end of the doorbell ring."""
    @property
    def interrupt(self) -> Producer:
        """The producing end of the interrupt ring."""
    @property
    def _take(self) -> Taking[float | None, Request]: ...
    def _idle(self) -> bool: ...
    def _serve(
        self,
        handler: Callable[[memoryview], Payload],
        failed: Callable[[Exception], str],
        /,
    ) -> None: ...
    def __iter__(self) -> Iterator[Request]: ...

@final
class Frame:
    """Room in the ring for one message; made by `reserve`, published when its `with` block ends."""
    @property
    def payload(self) -> memoryview:
        """Writable view of the reserved bytes; what was there before is undefined. Using it after
        the `with` block raises ValueError.
        """
    @property
    def token(self) -> int:
        """Of the message: what `submit` would have returned, or what `reserve` was given."""
    length: int
    def abandon(self) -> None:
        """Give it up, so that nothing is published. Doing that twice does nothing."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class RecordBlock:
    """Room in the ring for records; made by `reserve`, published when its `with` block ends."""
    @property
    def rows(self) -> NDArray[Any]:
        """Writable array of the reserved records; what was there before is undefined. Writing to
        it after the `with` block raises ValueError.
        """
    count: int
    def abandon(self) -> None:
        """Give it up, so that nothing is published. Doing that twice does nothing."""
    def __enter__(self) -> NDArray[Any]: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Coalescing:
    """Holds back the kicks of a producer while its `with` block runs; made by `coalesce`."""
    def __new__(cls, end: End, max_entries: int, max_delay_ns: int) -> Self: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

@final
class Completion:
    """A device's answer to one request."""
    def __new__(cls, token: int, payload: bytes, ok: bool) -> Self: ...
    @property
    def token(self) -> int:
        """The token that `submit` returned for the request."""
    @property
    def payload(self) -> bytes:
        """The answer; if `ok` is false, what the device said went wrong, as UTF-8."""
    @property
    def ok(self) -> bool:
        """Whether the device completed the request; false if it failed it."""
    def result(self) -> bytes:
        """Give the payload, or raise RequestFailed with the device's text."""

@final
class Request:
    """A request that a device has taken and has to complete or fail, in any order.

    Until then its slots stay in use; the ring goes round only as far as the oldest of them.
    """
    @property
    def token(self) -> int:
        """The driver's name for the request, 64 bits."""
    @property
    def payload(self) -> memoryview:
        """Read-only view of the request's bytes, where they lie in shared memory.

        Valid until the request is completed; using it after that raises ValueError. A request
        larger than half the ring was put together in private memory, and this is a view of that.
        """
    def complete(
        self, payload: Payload = b"", timeout: float | None = None, *, ok: bool = True
    ) -> None:
        """Answer with any contiguous buffer, of any size; also with the request's own payload.

        A piece of the payload that is the answer is released with it. A message that was sent
        without a token wants no completion: it is only released.
        Blocks while the interrupt ring is full. With `ok=False` the answer is a failure, see
        `fail`. Raises BufferError while a slice of the payload or an array made from it is
        alive, RuntimeError when the request has been answered before, RingFull after
        `timeout` seconds (the request is still to be completed then), PeerLost when the
        driver died. If the driver closed the channel it wants no answers, and this one is
        dropped.
        """
    def fail(self, text: str, timeout: float | None = None) -> None:
        """Answer that the request cannot be done, and why; the driver gets RequestFailed.

        Otherwise like `complete`.
        """

def close_side(address: int, goodbye: bool, patience_ns: int, /) -> bool: ...
