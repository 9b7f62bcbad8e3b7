# SPDX-License-Identifier: MIT
"""What the two processes of a measurement do. The loops that are timed are the adaptors'.

A payload begins with its number. In the warm-up and in the first round every payload is compared.
Later only the last one of each block is, which also shows whether one before it was lost.
"""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peers.adaptor import PATIENCE, Adaptor, Lost, Near, Place, Receiver, Sender

BLOCK = 1024
LIST = 64
DEPTH = 128
IDLE = 0.01  # seconds
ONE_WAY = frozenset({"one way", "views", "lists", "pickled lists"})
# Messages or exchanges before those that are timed. Jobs that are not here begin with a block.
WARM_UP = {"idle": 3, "echo": 500, "call": 500}
# A prime, so neither a block nor a lap of the ring has the length of a lap of the payloads.
_PAYLOADS = 997

Meet = Callable[[], None]
Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    what: str
    count: int
    """Of blocks of messages, or of exchanges."""
    compare_all: bool = False


def payloads_of(size: int) -> list[bytes]:
    return [struct.pack("<Q", number).ljust(size, b".") for number in range(_PAYLOADS)]


def numbered(size: int, first: int, count: int) -> list[bytes]:
    """Give references to payloads of those numbers."""
    some = payloads_of(size)
    return [some[number % _PAYLOADS] for number in range(first, first + count)]


# ---- one way ----


def send(adaptor: Adaptor, place: Place, job: Job, meet: Meet) -> Result:
    sender = adaptor.sender(place)
    messages = numbered(place.size, BLOCK, job.count * BLOCK)
    work = _sending(sender, job.what, messages)
    meet()  # both ends are open
    _sending(sender, job.what, numbered(place.size, 0, BLOCK))()
    meet()  # the warm-up has arrived
    cpu, began = time.process_time(), time.perf_counter()
    work()
    meet()  # everything has arrived; until now threads of the library may have worked
    cpu = time.process_time() - cpu
    sender.close()
    return {"began": began, "sending": cpu}


def _sending(sender: Sender, what: str, messages: list[bytes]) -> Callable[[], None]:
    if "lists" not in what:
        return lambda: sender.send_all(messages)
    lists = [messages[i : i + LIST] for i in range(0, len(messages), LIST)]
    return lambda: sender.send_lists(lists)


def receive(adaptor: Adaptor, place: Place, job: Job, meet: Meet) -> Result:
    receiver = adaptor.receiver(place)
    take = _taking(receiver, job.what)
    payloads = payloads_of(place.size)
    meet()
    wrong = _compare(receiver, job.what, payloads, 0, BLOCK)
    meet()
    lost, waited, messages = 0, 0.0, job.count * BLOCK
    cpu = time.process_time()
    try:
        if job.compare_all:
            wrong += _compare(receiver, job.what, payloads, BLOCK, messages)
        else:
            for last in range(2 * BLOCK - 1, BLOCK + messages, BLOCK):
                if take(BLOCK) != payloads[last % _PAYLOADS]:
                    wrong += 1
    except Lost as error:
        # All blocks before this one came. In the first round it is enough to know of a loss.
        lost = 1 if job.compare_all else messages - (last + 1 - 2 * BLOCK) - error.got
        waited = PATIENCE
    ended, cpu = time.perf_counter() - waited, time.process_time() - cpu
    meet()
    receiver.close()
    return {"ended": ended, "receiving": cpu, "wrong": wrong, "lost": lost}


def _taking(receiver: Receiver, what: str) -> Callable[[int], bytes]:
    if what == "views":
        return receiver.take_views
    if "lists" in what:
        return lambda count: receiver.take_lists(count, LIST)
    return receiver.take


def _compare(receiver: Receiver, what: str, payloads: list[bytes], first: int, count: int) -> int:
    """Take `count` messages; compare each, or the last one of each list."""
    take, step = _taking(receiver, what), LIST if "lists" in what else 1
    return sum(
        take(step) != payloads[(number + step - 1) % _PAYLOADS]
        for number in range(first, first + count, step)
    )


# ---- there and back ----


def ask(adaptor: Adaptor, place: Place, job: Job, meet: Meet) -> Result:
    near = adaptor.near(place)
    warm_up = WARM_UP.get(job.what, BLOCK)
    warm, messages = numbered(place.size, 0, warm_up), numbered(place.size, warm_up, job.count)
    meet()
    result = _asking(near, job.what, warm)
    wrong = result["wrong"]
    result = _asking(near, job.what, messages)
    near.close()  # every message has its answer
    return result | {"wrong": result["wrong"] + wrong}


def _asking(near: Near, what: str, messages: list[bytes]) -> Result:
    if what == "in flight":
        began = time.perf_counter()
        last = near.in_flight(messages, DEPTH)
        seconds = time.perf_counter() - began
        return {"rate": len(messages) / seconds, "wrong": int(last != messages[-1])}
    if what == "call":
        times, wrong = _time_calls(near.call, messages)
    else:
        times, wrong = _time_exchanges(near, messages, IDLE if what == "idle" else 0)
    times.sort()
    return {
        "p50": statistics.median(times) / 1e3,
        "p99": times[int(len(times) * 0.99)] / 1e3,
        "wrong": wrong,
    }


def _time_calls(call: Callable[[bytes], bytes], messages: list[bytes]) -> tuple[list[int], int]:
    clock, times, wrong = time.perf_counter_ns, [], 0
    for message in messages:
        began = clock()
        answer = call(message)
        times.append(clock() - began)
        if answer != message:
            wrong += 1
    return times, wrong


def _time_exchanges(near: Near, messages: list[bytes], pause: float) -> tuple[list[int], int]:
    clock, times, wrong = time.perf_counter_ns, [], 0
    send, recv = near.send, near.recv
    for message in messages:
        if pause:
            time.sleep(pause)
        began = clock()
        send(message)
        answer = recv()
        times.append(clock() - began)
        if answer != message:
            wrong += 1
    return times, wrong


def answer(adaptor: Adaptor, place: Place, job: Job, meet: Meet) -> Result:
    far = adaptor.far(place)
    count = WARM_UP.get(job.what, BLOCK) + job.count
    meet()
    (far.serve if job.what == "call" else far.echo)(count)
    far.close()
    return {}
