# SPDX-License-Identifier: MIT
"""Calls of tasks that are cancelled, time out or fail: no other answer is lost."""

import asyncio
import contextlib
import gc

import pytest
from loops import ANSWERS, gather, readable, run, sleep, until
from processes import wait_until

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop


def waits_for(driver):
    """How many tasks wait for an answer."""
    return sum(not future.done() for future in driver._waiting.values())


def test_cancelling_a_call_loses_no_other_answer_and_not_the_channel(loop, path, start):
    device = start("device")

    async def main():
        async with aio.connect(path) as driver:
            device.run(ANSWERS)

            async def cancelled(payload):
                with pytest.raises(TimeoutError):
                    await running_loop().within(0.01, driver.call(payload))

            async def answer():
                await until(loop, lambda: driver.in_flight == 20 and waits_for(driver) == 10)
                device.begin("answers(20)")

            calls = [driver.call(b"kept %d" % number) for number in range(10)]
            dropped = [cancelled(b"dropped %d" % number) for number in range(10)]
            mixed = [call for both in zip(dropped, calls, strict=True) for call in both]
            *results, _ = await gather([*mixed, answer()])
            assert results[1::2] == [b"KEPT %d" % number for number in range(10)]
            assert results[::2] == [None] * 10
            device.reply()
            device.begin("answers(1)")
            assert await driver.call(b"after") == b"AFTER"
            assert driver.in_flight == 0
            device.reply()

    run(loop, main)


def test_an_answer_that_comes_before_the_loop_knows_of_the_request(loop, path, start):
    """A thread sends a request in pieces. The device answers, and only then the loop goes on."""
    device = start("device")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:
            device.begin("[request.complete(b'%d' % len(request.payload)) for request in device]")

            async def hold_up():
                while not driver._sending._away:
                    await sleep(loop, 0)
                wait_until(lambda: driver.stats().device.producer.entries)

            answers = await gather([driver.call(bytes(100_000)), hold_up()])
            assert answers == [b"100000", None]
            assert driver.in_flight == 0

    run(loop, main)
    device.reply()


def test_a_failure_that_nobody_waits_for_any_longer_is_not_reported(path, start):
    """A thread sends the request to its end, although its task has been cancelled."""
    device = start("device")
    reported = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        async with aio.connect(path, ring_size=4096) as driver:
            call = asyncio.create_task(driver.call(bytes(100_000)))
            while not driver._sending._away:
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            device.begin("device.take().fail('too late'); device.take().complete()")
            assert await driver.call(b"x") == b""
            device.reply()
        gc.collect()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert reported == []


def test_what_the_loop_raises_loses_no_answer_of_others(pair):
    driver, device = pair()

    class Refuses:
        def done(self):
            raise InterruptedError

    class Takes(list):
        def done(self):
            return False

        set_result = list.append

    futures = [Takes(), Refuses(), Takes(), Takes()]
    waiting = {driver.submit(b"%d" % number): future for number, future in enumerate(futures)}
    for _ in futures:
        request = device.take()
        request.complete(request.payload)
    with pytest.raises(InterruptedError):
        driver._hand_out(waiting)
    assert readable(driver.interrupt.fileno())
    assert driver._hand_out(waiting) == 2
    assert futures[0] + futures[2] + futures[3] == [b"0", b"2", b"3"]
    assert driver.in_flight == 0


def test_asyncio_timeout_ends_a_call(path, start):
    device = start("device")

    async def main():
        async with aio.connect(path) as driver:
            device.run(ANSWERS)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await driver.call(b"late")
            device.begin("answers(2)")
            assert await driver.call(b"x") == b"X"
            device.reply()

    asyncio.run(main())


def test_a_timeout_says_what_was_missing(loop, path, start):
    start("device")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:
            with pytest.raises(TypeError):
                await driver.call("text")
            with pytest.raises(ringbell.RingEmpty):
                await driver.call(b"x", timeout=0.01)
            with pytest.raises(ringbell.RingFull):
                for _ in range(100):
                    with contextlib.suppress(ringbell.RingEmpty):
                        await driver.call(bytes(1000), timeout=0.001)
            with pytest.raises(ValueError, match="timeout is a number of seconds"):
                await driver.call(b"x", timeout=-1)

    run(loop, main)
