# Types for type checkers only: nothing of this is there at run time.
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

import numpy as np
from _typeshed import ReadableBuffer

from ringbell._ends import Parts
from ringbell.calls.device import Device
from ringbell.calls.driver import Driver
from ringbell.calls.listener import Listener
from ringbell.calls.service import ServedDriver
from ringbell.launching.worker import StartMethod
from ringbell.meeting.segment import Keep, Memory
from ringbell.policy import Blocks, Kick, Moderation, Polling
from ringbell.publishing.publisher import MessagePublisher
from ringbell.publishing.subscriber import MessageSubscriber
from ringbell.ring.consumer import Consumer
from ringbell.ring.producer import Producer
from ringbell.streams.gathered_producer import GatheredProducer
from ringbell.streams.messages import MessageConsumer, MessageProducer

class _Tensor(Protocol):
    def __dlpack__(self) -> Any: ...

# Any contiguous buffer. Before Python 3.12 NumPy's stubs do not say that an array is one.
Payload: TypeAlias = ReadableBuffer | np.ndarray[Any, Any] | np.generic | _Tensor

# ---- codecs ----

# What the option `codec` takes. With anything but "bytes" a channel carries objects.
_Encode: TypeAlias = Callable[[Any], ReadableBuffer]
_Decode: TypeAlias = Callable[[Any], Any]
ObjectCodec: TypeAlias = Literal["pickle"] | tuple[_Encode, _Decode] | tuple[_Encode, _Decode, str]
AnyCodec: TypeAlias = Literal["bytes"] | ObjectCodec

# Of the codec for pickles.
Packing: TypeAlias = Callable[[object], bytes | Parts]
Unpacking: TypeAlias = Callable[[bytes | memoryview], Any]
# The methods `dump` and `clear_memo` of a pickler, and what it depends on.
PicklerParts: TypeAlias = tuple[Callable[[object], object], Callable[[], object], Sized | None]

Handler: TypeAlias = Callable[[memoryview], Payload]
ObjectHandler: TypeAlias = Callable[[Any], Any]

# The classes of ringbell as they are with a codec: they take and give objects of any type.

class ObjectProducer(Producer):
    def send(self, payload: Any, token: int = 0, timeout: float | None = None) -> None: ...
    def send_many(self, payloads: Iterable[Any], timeout: float | None = None) -> int: ...

class ObjectConsumer(Consumer):
    def recv(self, timeout: float | None = None) -> Any: ...
    def recv_many(
        self,
        max: int | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> list[Any]: ...
    def borrow(self, timeout: float | None = None) -> Any: ...
    def hold(self, timeout: float | None = None) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...

class ObjectMessageProducer(ObjectProducer, MessageProducer): ...
class ObjectMessageConsumer(ObjectConsumer, MessageConsumer): ...
class ObjectMessagePublisher(ObjectProducer, MessagePublisher): ...

class ObjectMessageSubscriber(MessageSubscriber):
    def recv(self, timeout: float | None = None) -> Any: ...
    def recv_many(
        self,
        max: int | None = None,  # noqa: A002
        timeout: float | None = None,
    ) -> list[Any]: ...
    def latest(self, timeout: float | None = None) -> Any: ...
    def borrow(self, timeout: float | None = None) -> Any: ...
    def hold(self, timeout: float | None = None) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...

class ObjectDriver(Driver):
    @property
    def doorbell(self) -> ObjectProducer: ...
    @property
    def interrupt(self) -> ObjectConsumer: ...
    def call(self, payload: Any, timeout: float | None = None) -> Any: ...
    def call_and_hold(self, payload: Any, timeout: float | None = None) -> Any: ...
    def submit(self, payload: Any, timeout: float | None = None) -> int: ...
    def map(
        self, payloads: Iterable[Any], depth: int = 128, timeout: float | None = None
    ) -> Iterator[Any]: ...
    def reap(self, timeout: float | None = None) -> Any: ...

class ObjectDevice(Device):
    @property
    def doorbell(self) -> ObjectConsumer: ...
    @property
    def interrupt(self) -> ObjectProducer: ...
    def take(self, timeout: float | None = None) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...

class ObjectListener(Listener):
    def accept(self, timeout: float | None = None) -> ObjectDevice: ...

# ---- options, by the functions that take them ----

class _Policy(TypedDict, total=False):
    polling: Polling
    max_poll: float
    max_share: float
    kick: Kick
    moderation: Moderation | None
    max_message: int | None
    blocks: Blocks | None

class ListenOptions(_Policy, total=False):
    cpu: int | None

class ServerOptions(ListenOptions, total=False):
    arrived: Callable[[ServedDriver], object] | None
    left: Callable[[ServedDriver], object] | None

class ConnectOptions(ListenOptions, total=False):
    ring_size: int
    timeout: float | None
    wait: bool
    memory: Memory | None

class _Launching(_Policy, total=False):
    start_method: StartMethod
    ring_size: int
    timeout: float | None
    memory: Memory | None

class LaunchOptions(_Launching, total=False):
    cpu: int | None

class PoolOptions(_Launching, total=False):
    cpus: Iterable[int] | None
    retry: bool
    restarts: int
    depth: int

class PipelineOptions(_Policy, total=False):
    cpus: tuple[int, int] | Literal["auto"] | None
    start_method: StartMethod
    ring_size: int
    memory: Memory | None
    checked: bool

class _Stream(TypedDict, total=False):
    cpu: int | None
    polling: Polling
    max_poll: float

class ProduceOptions(_Stream, total=False):
    ring_size: int
    timeout: float | None
    max_share: float
    kick: Kick
    memory: Memory | None
    blocks: Blocks | None

class PublishOptions(_Stream, total=False):
    keep: Keep
    min_readers: int | None
    stall: float | None
    ring_size: int
    max_share: float
    kick: Kick
    memory: Memory | None
    blocks: Blocks | None

class ConsumeOptions(_Stream, total=False):
    timeout: float | None
    max_share: float
    moderation: Moderation | None
    checked: bool
    max_message: int | None

class GatherOptions(_Stream, total=False):
    timeout: float | None
    arrived: Callable[[GatheredProducer], object] | None
    left: Callable[[GatheredProducer], object] | None
    moderation: Moderation | None
    checked: bool
    max_message: int | None
