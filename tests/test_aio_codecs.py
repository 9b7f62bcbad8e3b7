# SPDX-License-Identifier: MIT
"""Objects between the tasks of an event loop and other processes."""

import coded
import numpy as np
import pytest
from loops import run

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop

SMALL_RING = 4096
large = np.arange(20_000.0)


@pytest.mark.parametrize("max_poll", [0, 0.001])
def test_tasks_call_with_objects(loop, path, start, max_poll):
    start("serve", handler="odd", codec="pickle")
    answers = {}

    async def call(driver, number):
        answers[number] = await driver.call({"n": number, "x": large})

    async def main():
        options = {"codec": "pickle", "ring_size": SMALL_RING, "max_poll": max_poll}
        async with aio.connect(path, **options) as driver:
            async with running_loop().tasks() as begin:
                for number in range(10):
                    begin(call, driver, number)
            with pytest.raises(TypeError, match="not this one"):
                await driver.call(coded.Unpicklable())
            with pytest.raises(ArithmeticError, match="boom"):
                await driver.call("explosive")
            with pytest.raises(ringbell.RequestFailed, match="boom"):
                await driver.call(coded.Explosive())
            assert await driver.call(1, timeout=60) == 1

    run(loop, main)
    assert [answers[i]["n"] for i in range(10)] == list(range(10))
    assert all((one["x"] == large).all() for one in answers.values())


@pytest.mark.parametrize("handler", ["odd", "odd_later"])
def test_a_handler_of_a_loop_gets_and_gives_objects(loop, path, start, connect, handler):
    server = start("nothing", codec="pickle")
    server.run("import loops; from ringbell import aio")
    serve = f"lambda: aio.serve(path, coded.{handler}, codec='pickle')"
    server.begin(f"loops.run({loop!r}, {serve})")
    driver = connect(codec="pickle", ring_size=SMALL_RING, wait=True, timeout=60)
    given = [{"x": large + i} for i in range(20)]
    for value, answer in zip(given, driver.map(given), strict=True):
        assert coded.same(answer, value)
    for value, error in [
        (coded.Explosive(), "ArithmeticError: boom"),
        ("unpicklable", "TypeError: not this one"),
    ]:
        with pytest.raises(ringbell.RequestFailed, match=error):
            driver.call(value)
    assert driver.call(1) == 1


def test_a_task_takes_and_completes_objects(loop, path, start):
    peer = start("nothing", codec="pickle")
    peer.begin("driver = ringbell.connect(path, wait=True, codec='pickle')")
    peer.begin(
        "[answer['x'].sum() for answer in driver.map({'x': coded.np.ones(3)} for _ in '12')]"
    )
    peer.begin("driver.call(1)")
    peer.begin("driver.close()")

    async def main():
        async with aio.listen(path, codec="pickle") as listener, await listener.accept() as device:
            for _ in range(2):
                request = await device.take()
                request.payload["x"] += 1
                await request.complete(request.payload)
            request = await device.take()
            with pytest.raises(TypeError, match="not this one"):
                await request.complete(coded.Unpicklable())
            await request.fail("no é")

    run(loop, main)
    assert peer.reply() == "None"
    assert peer.reply() == "[np.float64(6.0), np.float64(6.0)]"
    with pytest.raises(Exception, match="RequestFailed: no é"):
        peer.reply()


def test_streams_carry_objects_between_loops_and_processes(loop, path, start):
    peer = start("consumer", codec="pickle")
    peer.begin("got = list(consumer)")

    async def send():
        async with aio.produce(path, codec="pickle", ring_size=SMALL_RING) as producer:
            await producer.send({"x": large})
            assert await producer.send_many([1, large, "two"]) == 3

    run(loop, send)
    peer.reply()
    assert peer.run("[type(one).__name__ for one in got]") == repr(
        ["dict", "int", "ndarray", "str"]
    )
    peer = start("producer", codec="pickle")
    peer.begin("producer.send_many([{'n': i, 'x': coded.np.full(1000, i)} for i in range(5)])")
    peer.begin("producer.send(coded.Explosive())")
    peer.begin("producer.send_many(range(3))")
    peer.begin("producer.close()")

    async def take():
        async with aio.consume(path, codec="pickle") as consumer:
            assert (await consumer.recv())["n"] == 0
            borrowed = await consumer.borrow()
            assert not borrowed["x"].flags.writeable
            with pytest.raises(BufferError):
                await consumer.recv()
            del borrowed
            got = [one["x"].sum() for one in await consumer.recv_many(3)]
            assert got == [2000, 3000, 4000]
            with pytest.raises(ArithmeticError, match="boom"):
                await consumer.recv()
            assert [one async for one in consumer] == [0, 1, 2]

    run(loop, take)
    for _ in range(4):
        peer.reply()


def test_tasks_gather_objects(loop, path, start):
    peer = start("producer", codec="pickle", timeout=60)
    peer.begin("producer.send_many([{'n': i, 'x': coded.np.full(1000, i)} for i in range(100)])")
    peer.begin("producer.send(coded.Explosive())")
    peer.begin("producer.send('last')")

    async def main():
        async with aio.gather(path, codec="pickle") as gather:
            got = [(await gather.take())[1] for _ in range(100)]
            assert [(one["n"], one["x"].sum()) for one in got] == [
                (i, i * 1000) for i in range(100)
            ]
            with pytest.raises(ArithmeticError, match="boom"):
                await gather.take()
            assert [value async for _, value in gather_one(gather)] == ["last"]

    async def gather_one(gather):
        yield await gather.take()

    run(loop, main)
    for _ in range(3):
        peer.reply()


def test_a_loop_and_another_codec_are_refused(loop, path, start):
    start("serve", handler="back", codec="pickle")

    async def main():
        with pytest.raises(ringbell.LayoutMismatch, match="'bytes', and the device's is 'pickle'"):
            await aio.connect(path)
        with pytest.raises(ValueError, match="codec is 'bytes'"):
            await aio.connect(path, codec="json")

    run(loop, main)
