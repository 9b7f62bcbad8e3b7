# Types for type checkers only: nothing of this is there at run time.
from typing import TypedDict

from ringbell.meeting.segment import Keep, Memory
from ringbell.policy import Blocks, Kick, Moderation

# The options of the functions of ringbell.aio.

class ListenOptions(TypedDict, total=False):
    cpu: int | None
    max_poll: float
    kick: Kick
    moderation: Moderation | None
    max_message: int | None
    blocks: Blocks | None

class ConnectOptions(ListenOptions, total=False):
    ring_size: int
    timeout: float | None
    wait: bool
    memory: Memory | None

class ProduceOptions(TypedDict, total=False):
    ring_size: int
    timeout: float | None
    cpu: int | None
    kick: Kick
    memory: Memory | None
    blocks: Blocks | None

class PublishOptions(TypedDict, total=False):
    keep: Keep
    min_readers: int | None
    stall: float | None
    ring_size: int
    cpu: int | None
    kick: Kick
    memory: Memory | None
    blocks: Blocks | None

class ConsumeOptions(TypedDict, total=False):
    timeout: float | None
    cpu: int | None
    max_poll: float
    moderation: Moderation | None
    checked: bool
    max_message: int | None
