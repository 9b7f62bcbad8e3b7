# The stub of the extension that setup.py builds from csrc/python; a test compares the two.
from collections.abc import Callable, Iterable, Iterator
from pickle import PickleBuffer
from types import TracebackType
from typing import Any, Generic, NoReturn, Self, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ringbell._types import Payload as Payload
from ringbell._types import PicklerParts, Unpacking
from ringbell.channel.channel import Channel
from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.streams.checked import Steps

_Key = TypeVar("_Key", contravariant=True)
_Taken = TypeVar("_Taken", covariant=True)
_Result = TypeVar("_Result")
_Many: TypeAlias = tuple[int | None, float | None]

MUCH_MEMORY: int
"""Bytes. Nothing checks whether less than this is available: the check would take as long."""

def memory_at(keeper: object, address: int, size: int, read_only: bool, /) -> memoryview: ...
def octets_of(result: object, /) -> bytes: ...
def writable(octets: bytes, /) -> memoryview: ...
def wait_readable(descriptors: list[int], timeout: float | None, /) -> list[int]: ...

@final
class Taking(Generic[_Key, _Taken]):
    """Takes something from an end; `taking[key]` takes."""
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
        """The longest payload in bytes that `reserve` can give in the ring: all of it. With
        `blocks` it can also give as much as `Blocks.pool` has.
        """
    def send(self, payload: Payload, token: int = 0, timeout: float | None = None) -> None:
        """Copy one message (any contiguous buffer, of any size) into the ring.

        Blocks while the ring is full. It takes nothing from the other ring meanwhile
        (`Driver.submit` does). A message larger than half the ring is sent in pieces. Raises
        RingFull after `timeout` seconds (nothing of the message arrives then), EndOfStream or
        PeerLost when the other side is gone, TypeError when the payload is no buffer,
        ChannelClosed after close.
        """
    def send_many(self, payloads: Iterable[Payload], timeout: float | None = None) -> int:
        """Copy many messages into the ring, as many at a time as fit.

        The other side sees a group that fits at once, and gets at most one kick for it.
        Blocks while the ring is full. Returns how many messages were sent: all, or fewer when
        `timeout` seconds are over. Raises RingFull when none was sent, TypeError for a
        payload that is no buffer, and what `send` raises. Messages sent before an exception
        do arrive.
        """
    def reserve(self, size: int, token: int = 0, timeout: float | None = None) -> Frame:
        """Give room for a message of up to `size` bytes, to be written in place.

        `with producer.reserve(4096) as frame: frame.payload[:] = ...` publishes the message
        at the end of the block. If an exception leaves the block, nothing is sent. With
        `blocks` a large message is written where the other side will read it. Blocks
        while the ring is full. Raises ValueError when `size` is larger than `max_payload` and
        than the pool of blocks; RingFull after `timeout` seconds, RuntimeError when a frame is
        reserved already; and what `send` raises.
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
    @property
    def _hold(self) -> Taking[float | None, bytes | memoryview]: ...
    @property
    def _latest(self) -> Taking[float | None, bytes | memoryview]: ...
    def _give_back(self) -> None: ...
    def _arrived(self) -> Iterator[memoryview]: ...
    def __iter__(self) -> Iterator[memoryview]: ...

@final
class PipeConsumer(MessageConsumer):
    """The consuming end of a connection of a pipe."""

    def __new__(cls, channel: Channel, unpack: Unpacking, /) -> Self: ...
    @property
    def _recv_bytes(self) -> Taking[float | None, bytes]: ...
    @property
    def _recv_into(self) -> Taking[memoryview, int]: ...
    def _poll(self, timeout: float | None, /) -> bool: ...
    def _watch(self) -> None: ...

class RecordProducer(End):
    """The producing end of a record ring."""
    def __new__(
        cls,
        channel: Channel,
        dtype: np.dtype[Any],
        names: tuple[str, ...] | bool | None,
        exact: np.dtype[Any],
        rows: NDArray[Any],
        /,
    ) -> Self: ...
    @property
    def _exact(self) -> np.dtype[Any]: ...
    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of one record."""
    @property
    def capacity(self) -> int:
        """How many records the ring holds; `reserve` can give all of them."""
    def write(self, rows: ArrayLike, timeout: float | None = None) -> int:
        """Copy records into the ring, as many at a time as fit; return how many.

        `rows` is a one-dimensional array of the stream's dtype, one record (a tuple of its
        fields), or lists of records. Python values become records only if that changes none
        of them (a float may be rounded). The consumer sees a group that fits at once, and
        gets at most one kick for it. Blocks while the ring is full. Returns less than all
        when `timeout` seconds are over; raises RingFull when none was written.

        Raises TypeError for an array of another dtype, a masked array, a table, or values of
        another kind; OverflowError for numbers that do not fit; ValueError for text that does
        not fit and for another shape; EndOfStream or PeerLost when the consumer is gone;
        ChannelClosed after close. Records written before an exception do arrive.
        """
    def reserve(self, count: int, timeout: float | None = None) -> RecordBlock:
        """Give room for `count` records, to be written in place.

        `with producer.reserve(1000) as rows: rows["price"] = ...` gives a writable array of
        the stream's dtype and publishes it at the end of the block. If an exception leaves
        the block, nothing is published. To publish fewer records, keep the block: `block =
        producer.reserve(1000)`, `with block as rows: ...; block.count = 10`. Blocks while
        there is no room for all of them. Raises ValueError unless `count` is from 1 to
        `capacity` (to half of it where a publication keeps the newest), RingFull after
        `timeout` seconds, RuntimeError when a block is reserved already, and what `write`
        raises.
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
        """The dtype of one record; the producer chose it."""
    @property
    def capacity(self) -> int:
        """How many records the ring holds."""
    @property
    def _borrow(self) -> Taking[_Many, NDArray[Any]]: ...
    @property
    def _read(self) -> Taking[_Many, NDArray[Any]]: ...
    @property
    def _latest(self) -> Taking[_Many, NDArray[Any]]: ...
    def _give_back(self) -> None: ...
    def __iter__(self) -> Iterator[NDArray[Any]]: ...

class Side:
    """One side of a channel, for one thread at a time."""
    @property
    def _channel(self) -> Channel: ...

class Driver(Side):
    """The side that sends requests and takes the answers."""
    def __new__(cls, doorbell: Producer, interrupt: Consumer) -> Self: ...
    @property
    def doorbell(self) -> Producer:
        """The producing end of the doorbell ring, for messages that want no completion."""
    @property
    def interrupt(self) -> Consumer:
        """The consuming end of the interrupt ring.

        When this driver takes a completion, it releases what `borrow` of this end has lent.
        It raises BufferError while a part of that is in use.
        """
    @property
    def in_flight(self) -> int:
        """How many requests have no completion yet, or one that `reap` has not handed over."""
    @property
    def _reap(self) -> Taking[float | None, Completion]: ...
    def _hand_out(self, waiting: dict[int, Any]) -> int: ...
    def submit(self, payload: Payload, timeout: float | None = None) -> int:
        """Copy one request (any contiguous buffer, of any size) into the ring; return its token.

        Blocks while the doorbell ring is full. Meanwhile it takes completions that arrive and
        keeps them for `reap`, so that a device which waits for room itself can go on. Raises
        RingFull after `timeout` seconds (the request was not sent), EndOfStream or PeerLost
        when the device is gone, TypeError when the payload is no buffer, ChannelClosed after
        close.
        """
    def call(self, payload: Payload, timeout: float | None = None) -> bytes:
        """Submit one request and wait for its answer, at most `timeout` seconds in all.

        Raises RequestFailed with the device's text when the device failed the request;
        RingFull or RingEmpty when the time is over (an answer that comes later is dropped);
        and what `submit` raises.
        """
    def call_and_hold(self, payload: Payload, timeout: float | None = None) -> bytes | memoryview:
        """Do as `call`, but leave an answer that the device sent by reference in its block.

        Gives a read-only view of the block, which everything made from it keeps; the device
        gets the block back when the last of that is dropped. Of a channel with a codec: the
        object, whose large arrays are such views. Any other answer comes as from `call`.
        Raises what `call` raises.
        """
    def map(
        self, payloads: Iterable[Payload], depth: int = 128, timeout: float | None = None
    ) -> Iterator[bytes]:
        """Submit each payload and yield the answers in the same order, `depth` in flight.

        It takes a payload from the iterable only when there is room, so the iterable may be
        endless. `timeout` is in seconds, for each step. Where `call` would raise, the step of
        that answer raises the same. After an exception, or when the iterator is dropped,
        answers still in flight are dropped when they arrive.
        """
    def reserve(self, size: int, timeout: float | None = None) -> Frame:
        """Give room for a request of up to `size` bytes, to be written in place.

        `with driver.reserve(4096) as frame: frame.payload[:] = ...` submits the request at
        the end of the block, with `frame.token` as its token. If an exception leaves the
        block, nothing is sent. Set `frame.length` to send fewer bytes. Blocks as `submit`
        does. Raises ValueError when `size` is larger than `max_payload`, and what `submit`
        raises.
        """

class Device(Side):
    """The side that takes requests and answers them."""
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
    ) -> NoReturn: ...
    def _serve_ready(
        self,
        handler: Callable[[memoryview], Payload],
        failed: Callable[[Exception], str],
        most: int,
        sole: bool,
        /,
    ) -> int: ...
    def __iter__(self) -> Iterator[Request]: ...

@final
class Frame:
    """Room in the ring for one message; made by `reserve`, published when its `with` block ends."""
    @property
    def payload(self) -> memoryview:
        """Writable view of the reserved bytes, with undefined content at first. Using it after
        the `with` block raises ValueError.
        """
    @property
    def token(self) -> int:
        """The token of the message: the one that `submit` would have returned, or that `reserve`
        was given.
        """
    length: int
    def abandon(self) -> None:
        """Give the room back without publishing. A second call does nothing."""
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
        """Writable array of the reserved records, with undefined content at first. Writing to it
        after the `with` block raises ValueError.
        """
    count: int
    def abandon(self) -> None:
        """Give the room back without publishing. A second call does nothing."""
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
    """Holds back the kicks of a producer until its `with` block ends; made by `coalesce`."""
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
class Parts:
    """Buffers that are sent as one payload, one after the other."""
    def __new__(cls, buffers: list[Payload], /) -> Self: ...
    def __len__(self) -> int: ...

@final
class Pickles:
    """Makes messages of objects, and objects of messages."""
    def __new__(
        cls,
        make: Callable[[Pickles], PicklerParts],
        join: Callable[[list[bytes], list[memoryview] | None], Parts],
        loads: Callable[[bytes], Any],
        take_apart: Callable[[bytes | memoryview], Any],
    ) -> Self: ...
    def write(self, part: bytes, /) -> object:
        """Take a part of a pickle; for the pickler."""
    def keep(self, buffer: PickleBuffer, /) -> bool:
        """Say whether a buffer is to be a part of the pickle; for the pickler."""
    def pack(self, value: object, /) -> bytes | Parts:
        """Make a message of an object: bytes, or Parts.

        Large buffers in it are not copied: they are copied when the message is sent. Raises
        what pickling raises.
        """
    def unpack(self, octets: bytes | memoryview, /) -> Any:
        """Make the object of a message.

        Of `bytes`, which nobody else may have, the arrays become writable views. Of a view
        they become read-only ones of the same memory. Raises what the code of the pickle
        raises, UnpicklingError when it is none.
        """

class Completion:
    """A device's answer to one request."""
    def __new__(cls, token: int, payload: bytes, ok: bool) -> Self: ...
    @property
    def token(self) -> int:
        """The token that `submit` returned for the request."""
    @property
    def payload(self) -> bytes:
        """The answer. If `ok` is false: the text of the failure, as UTF-8."""
    @property
    def ok(self) -> bool:
        """True if the device completed the request, false if it failed it."""
    def result(self) -> bytes:
        """Give the payload, or raise RequestFailed with the device's text."""

class Request:
    """A request that a device has taken and has to complete or fail, in any order.

    Its slots stay in use until then. A producer can write again only up to the oldest
    request that is not completed.
    """
    @property
    def token(self) -> int:
        """The driver's name for the request, 64 bits."""
    @property
    def payload(self) -> memoryview:
        """Read-only view of the request's bytes in shared memory.

        Valid until the request is completed; using it after that raises ValueError. A request
        larger than half the ring lies in private memory instead, or in a block of the
        driver's. If the channel has a codec, this is the object, which the request's receiver
        owns; it raises what the codec raises.
        """
    def complete(
        self, payload: Payload = b"", timeout: float | None = None, *, ok: bool = True
    ) -> None:
        """Answer with any contiguous buffer, of any size; the request's own payload will do.

        If the answer is a slice of the request's payload, this call releases the slice. A
        message that was sent without a token wants no completion: it is only released. With
        `ok=False` the answer is a failure, see `fail`. Blocks while the interrupt ring is
        full. If the driver has closed the channel, it wants no answers, and this one is
        dropped.

        Raises BufferError while a slice of the payload, or an array made from it, is alive;
        RuntimeError when the request has been answered before; RingFull after `timeout`
        seconds (the request can still be completed); PeerLost when the driver died.
        """
    def hold(self) -> bytes | memoryview:
        """Give the payload to be kept for as long as you want, also after the completion.

        If it lies in a block of the driver's (see `Blocks`), this is a read-only view of
        it. The driver gets the block back once the request is completed and nothing made
        from the view is left. Any other payload is copied, as bytes. Raises ValueError
        when the request has been completed.
        """
    def fail(self, text: str, timeout: float | None = None) -> None:
        """Answer that the request cannot be done, and why; the driver gets RequestFailed.

        Otherwise like `complete`.
        """

def close_side(address: int, goodbye: bool, patience_ns: int, /) -> bool: ...

_Waited = TypeVar("_Waited")

class Waiter(Generic[_Waited]):
    """Waits for many ends at once, for one thread at a time."""
    def __new__(cls, polling: int, max_poll_ns: int, max_share: int) -> Self: ...
    def __len__(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def add(self, what: _Waited, /) -> None:
        """Wait for `what`, too: a driver, a device, a consumer, or an object with a `fileno()`.

        The thread that waits is the one that takes from it. Raises ValueError when a waiter
        waits for it already, TypeError for a producer and for what has no descriptor,
        ChannelClosed after its close, OSError when the descriptor cannot be waited for.
        Remove what is no channel before its descriptor is closed.
        """
    def remove(self, what: _Waited, /) -> None:
        """Wait for it no longer. Raises KeyError when the waiter does not wait for it."""
    def fileno(self) -> int:
        """Give a descriptor for an event loop: readable when `wait(timeout=0)` may give something.

        Call `wait(timeout=0)` until it gives an empty list before you sleep on it. The waiter owns
        the descriptor. Raises ChannelClosed after close.
        """
    def wait(self, timeout: float | None = None) -> list[_Waited]:
        """Wait until something can be taken from a member; give a list of such members.

        A member is in the list when it has something to take, or when its next call says
        why nothing more comes (EndOfStream, PeerLost, ChannelClosed). Those that are always
        ready come in turn; the list has 256 members at most, and while some are busy another
        one may come some 20 us late. Polls for a while, as the waiter's options say, and
        sleeps then: once, for whatever arrives. Gives an empty list when nothing came
        within `timeout` seconds; None waits for ever, 0 only looks.
        A signal handler that raises ends the wait, and nothing is lost.

        Raises RuntimeError when another thread is inside of the waiter, or when the waiter
        has no members and `timeout` is None.
        """
    def discard(self, what: _Waited, /) -> None:
        """Wait for it no longer, if the waiter waits for it."""
    def close(self) -> None:
        """Wait for nothing any longer. The members stay open. Closing twice does nothing."""
    def _counts(self) -> tuple[int, int, int]: ...

_Lent = TypeVar("_Lent")

class Lent(Generic[_Lent]):
    """What a subscriber's `borrow` gives."""

    def __new__(cls, end: Any) -> Self: ...
    @property
    def _end(self) -> Any: ...
    @property
    def _index(self) -> int: ...
    _what: _Lent
    def __enter__(self) -> _Lent: ...
