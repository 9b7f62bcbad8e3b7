# SPDX-License-Identifier: MIT
"""Requests from the tasks of an event loop: `aio.connect`, and devices in other processes."""

import asyncio

import pytest
from loops import ANSWERS, gather, readable, run, sleep, until

from ringbell import aio
from ringbell.aio.loop import running_loop

# ---- many at once ----


def test_each_task_gets_its_own_answer(loop, path, start):
    start("serve", handler="upper")

    async def main():
        async with aio.connect(path) as driver:
            asked = [b"request %d" % number for number in range(1000)]
            assert await gather(map(driver.call, asked)) == [one.upper() for one in asked]
            assert driver.in_flight == 0
            assert driver.stats().dwi == driver.stats().dri

    run(loop, main)


def test_answers_may_come_in_any_order(loop, path, start):
    device = start("device", wait=False)
    device.begin(ANSWERS)
    device.begin("answers(50)")
    assert device.reply() == "ready"

    async def main():
        async with aio.connect(path) as driver:
            asked = [b"r%d" % number for number in range(50)]
            assert await gather(map(driver.call, asked)) == [one.upper() for one in asked]

    run(loop, main)


def test_a_burst_of_answers_wakes_the_loop_once(loop, path, start):
    device = start("device")

    async def main():
        async with aio.connect(path) as driver:
            device.run(ANSWERS)

            async def answer():
                await until(loop, lambda: driver.in_flight == 500)
                await sleep(loop, 0.01)  # the loop has gone to sleep by then, as a rule
                device.begin("answers(500)")

            calls = gather([driver.call(b"x")] + [driver.call(b"y") for _ in range(499)])
            before = driver.stats().device.producer.kicks_sent
            await gather([answer(), calls])
            assert driver.stats().device.producer.kicks_sent - before <= 2
            device.reply()

    run(loop, main)


def test_an_idle_driver_has_nothing_to_read(loop, path, start):
    start("serve", handler="upper")

    async def main():
        async with aio.connect(path) as driver:
            await gather(driver.call(b"x") for _ in range(10))
            await until(loop, lambda: not readable(driver._fd))

    run(loop, main)


def test_a_call_that_looks_finds_its_answer(loop, path, start):
    start("serve", handler="upper", polling="always")

    async def main():
        async with aio.connect(path, max_poll=0.01) as driver:
            turns = 0

            async def others():
                nonlocal turns
                while driver.stats().driver.consumer.entries < 1000:
                    turns += 1
                    await sleep(loop, 0)

            async def one_by_one():
                for number in range(1000):
                    assert await driver.call(b"r%d" % number) == b"R%d" % number

            await gather([others(), one_by_one()])
            assert driver.stats().driver.consumer.polling.found > 0
            assert turns > 1  # they had their turns

    run(loop, main)


def test_looks_that_find_nothing_become_rare(path, start):
    device = start("device")

    async def main():
        async with aio.connect(path, max_poll=1e-4) as driver:
            device.begin("[request.complete(time.sleep(0.002) or b'') for request in device]")
            for _ in range(100):
                await driver.call(b"x")
            polling = driver.stats().driver.consumer.polling
            assert polling.found + polling.missed < 50

    asyncio.run(main())
    device.reply()


# ---- back-pressure ----


def test_a_full_ring_suspends_tasks_and_not_the_loop(loop, path, start):
    device = start("device")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:
            device.run(ANSWERS)

            async def answer():
                # More than the ring has room for: some tasks wait for room.
                await until(loop, lambda: driver.in_flight and not driver._sending.is_free)
                await sleep(loop, 0.01)
                device.begin("[request.complete(request.payload) for request in device]")

            asked = [b"%d " % number * 100 for number in range(200)]
            *answers, _ = await gather([*map(driver.call, asked), answer()])
            assert answers == asked

    run(loop, main)
    device.reply()


def test_tasks_that_wait_for_room_can_be_cancelled(loop, path, start):
    device = start("device")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:

            async def give_up(payload):
                with pytest.raises(TimeoutError):
                    await running_loop().within(0.02, driver.call(payload))

            await gather(give_up(bytes(900)) for _ in range(20))
            device.begin("[request.complete(request.payload) for request in device]")
            asked = [b"%d" % number for number in range(300)]
            assert await gather(map(driver.call, asked)) == asked
            await until(loop, lambda: driver.in_flight == 0)

    run(loop, main)
    device.reply()


def test_a_request_may_be_longer_than_the_ring(loop, path, start):
    start("serve", handler="upper")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:
            asked = [b"a" * size for size in (100_000, 3, 50_000, 2, 2500, 1)]
            assert await gather(map(driver.call, asked)) == [one.upper() for one in asked]

    run(loop, main)
