# SPDX-License-Identifier: MIT
"""What a program may write. Nobody runs this: `make types` reads it."""

from __future__ import annotations

import csv
import hashlib
import io
import multiprocessing.connection
import pickle
import selectors
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ringbell
from ringbell import aio


def digest(payload: memoryview) -> bytes:
    return hashlib.sha256(payload).digest()


def doubled(payload: memoryview) -> NDArray[np.float64]:
    return np.frombuffer(payload) * 2


class Reversed:
    def __call__(self, payload: memoryview, /) -> memoryview:
        return payload[::-1]


def devices() -> None:
    ringbell.serve("a", digest, cpu=1, polling="never", kick="always", max_message=1 << 20)
    ringbell.serve(Path("b/c.sock"), doubled)
    ringbell.serve("d", Reversed())
    ringbell.serve("e", bytes)
    ringbell.serve("f", lambda payload: bytearray(payload))
    with ringbell.listen("g") as listener, listener.accept(timeout=3) as device:
        for request in device:
            kept: bytes | memoryview = request.hold()
            request.complete(np.arange(len(kept)), ok=False)
        taken: list[bytes] = device.doorbell.recv_many(10, timeout=0.0)
        device.interrupt.send_many([*taken, bytearray(b"y")])


def driver() -> tuple[bytes, int, bool]:
    moderation = ringbell.Moderation(entries=2)
    blocks = ringbell.Blocks(pool=1 << 24, least=1 << 16, when_lent="wait")
    with ringbell.connect("a", wait=True, moderation=moderation, blocks=blocks) as one:
        for payload in (b"x", bytearray(b"x"), memoryview(b"x"), array("d", [1.0]), np.arange(3)):
            one.call(payload, timeout=1.0)
        answers: list[bytes] = list(one.map((b"%d" % i for i in range(3)), depth=2))
        with one.reserve(10) as frame, one.doorbell.coalesce(max_delay=0.001):
            frame.payload[:1], frame.length = b"x", 1
        selectors.DefaultSelector().register(one.interrupt, selectors.EVENT_READ)
        one.interrupt.moderation = None
        completion = one.reap()
        found = one.stats().device.consumer.polling.found + one.stats().driver.blocks.lent
        return completion.result() + answers[0], completion.token + found, completion.ok


def producers(tick: np.dtype[Any]) -> None:
    with ringbell.produce("ticks", tick, ring_size=1 << 20, memory="memfd") as ticks:
        ticks.write(np.ones(3, tick))
        ticks.write([(1.0, 2)])
        with ticks.reserve(2) as rows:
            rows["price"] = 1.0
    for dtype in ("f8", float, np.float64, [("a", "f8"), ("b", "i4", (2,))]):
        ringbell.produce("x", dtype).write([1.0])
    with ringbell.produce("lines") as lines, io.TextIOWrapper(lines.as_file()) as text:
        csv.writer(text).writerow(["a", "b"])
        pickle.dump({"a": 1}, lines.as_file())


def consumers() -> None:
    with ringbell.consume("ticks") as ticks:
        kept: list[NDArray[Any]] = [rows["size"].copy() for rows in ticks]
        kept.append(ticks.read(10, timeout=1))
    with ringbell.consume("lines") as lines, io.TextIOWrapper(lines.as_file()) as text:
        print(list(csv.reader(text)), lines.recv().hex(), lines.recv_many()[0].hex())
    with ringbell.consume("ticks", "f8", checked=True) as numbers:
        print(capacity(numbers), numbers.borrow(max=5).sum(), *map(np.sum, numbers))
    with ringbell.consume("either") as either:
        print(*octets(either))


def connections() -> tuple[ringbell.Connection, bool]:
    reader, writer = ringbell.Pipe(duplex=False)
    with writer:
        writer.send({"a": 1})
        for payload in (b"abc", memoryview(b"abc"), np.arange(3)):
            writer.send_bytes(payload, 1, size=2)
    if not reader.closed and reader.poll(0.5):
        print(reader.recv()["a"], reader.recv_bytes(10).hex())
        print(reader.recv_bytes_into(bytearray(3), 1) + reader.recv_bytes_into(np.arange(3)))
    return reader, multiprocessing.connection.wait([reader, 5], timeout=1) == [reader]


def publications(frame: np.dtype[Any]) -> tuple[int, list[int]]:
    with ringbell.publish("frames", frame, keep="newest", ring_size=1 << 24) as frames:
        frames.write(np.zeros(3, frame))
        with frames.reserve(1) as rows:
            rows["number"] = 1
        pids: list[int] = [reader.pid for reader in frames.readers]
    with ringbell.publish("lines", min_readers=2, stall=0.5, blocks=ringbell.Blocks()) as lines:
        lines.send_many([b"a", b"b"], timeout=1)
    with ringbell.subscribe("frames", frame) as newest, newest.borrow(1) as lent:
        print(lent["number"].sum(), newest.latest()["number"], newest.read().shape)
    with ringbell.subscribe("lines") as either:
        print(either.recv().hex(), either.latest(timeout=0), *octets(either))
        with either.borrow() as view:
            print(view)
    with ringbell.publish("objects", codec="pickle") as objects:
        objects.send({"x": 1})
    with ringbell.subscribe("objects", codec="pickle") as objects_taken:
        objects_taken.recv()["x"].anything()
        objects_taken.latest().anything()
    return newest.missed, pids


async def publications_in_a_loop() -> None:
    async with aio.publish("frames", "f8", keep="newest") as frames:
        await frames.write([1.0], timeout=1)
        print(frames.readers[0].pid, frames.path)
    async with aio.publish("lines", stall=0.5, codec="bytes") as lines:
        await lines.send(b"x")
    async with aio.subscribe("frames", "f8", max_poll=1e-3) as numbers:
        kept: list[NDArray[Any]] = [rows.copy() async for rows in numbers]
        with await numbers.borrow(2) as rows:
            print(rows.sum(), len(kept), numbers.missed)
    async with aio.subscribe("either") as either:
        print((await either.recv()).hex(), await either.latest(timeout=0))
        with await either.borrow() as view:
            print(view)
        async for entries in either:
            entries.anything()
    reading = await aio.subscribe("objects", codec="pickle")
    (await reading.latest()).anything()


def capacity(consumer: ringbell.RecordConsumer) -> int:
    return consumer.capacity


def octets(consumer: ringbell.MessageConsumer | ringbell.RecordConsumer) -> Iterator[bytes]:
    if isinstance(consumer, ringbell.RecordConsumer):
        for rows in consumer:
            yield rows.tobytes()
    else:
        for payload in consumer:
            yield bytes(payload)


def objects(value: dict[str, NDArray[np.float64]]) -> float:
    return float(value["x"].sum())


def gives(stream: Any) -> None:
    stream.send({"x": np.ones(3)})


def sums_up(stream: ringbell.MessageConsumer) -> int:
    return sum(1 for _ in stream)


def codecs() -> None:
    with ringbell.connect("a", codec="pickle", timeout=3) as one:
        one.call_and_hold({"x": np.ones(3)})["x"].anything()
        total: float = one.call({"x": np.ones(3)}) + sum(one.map([{"x": np.ones(3)}], depth=2))
        one.submit(["anything", total])
        one.reap().result().anything()
        one.doorbell.send({"no": "answer"})
    with ringbell.listen("b", codec=(pickle.dumps, pickle.loads)) as listener:
        for request in listener.accept():
            request.complete({"got": request.payload["x"]})
    ringbell.serve("c", objects, codec=(pickle.dumps, pickle.loads, "a name"), cpu=1)
    ringbell.Server("d", objects, codec="pickle").serve_forever()
    with ringbell.produce("e", codec="pickle", ring_size=1 << 20) as producer:
        producer.send({"x": 1})
        producer.send_many([1, "2", None])
    with ringbell.consume("e", codec="pickle") as consumer:
        for value in consumer:
            value.anything()
        consumer.recv()["x"].anything()
        consumer.borrow()["x"].anything()
    for source, value in ringbell.gather("f", codec="pickle"):
        print(source.pid, value["x"])
    with ringbell.launch(objects, codec="pickle", cpu=1) as driver:
        driver.call({"x": np.ones(3)}).anything()
    with ringbell.Pool(objects, 2, codec="pickle") as pool:
        sums: list[float] = list(pool.map([{"x": np.ones(3)}]))
        sums.append(pool.submit({"x": np.ones(3)}).result())
    ringbell.pipeline(gives, sums_up, codec="pickle", blocks=ringbell.Blocks())


def pool_of_bytes(pool: ringbell.Pool) -> bytes:
    with ringbell.Pool(digest, 2, depth=3) as other:
        answers: list[bytes] = [*pool.map([b"x"]), *other.map([b"x"])]
    return answers[0]
