# SPDX-License-Identifier: MIT
"""Requests from the tasks of an event loop: `aio.connect`, and devices in other processes."""

import asyncio
import contextlib
import gc
import select
import signal
import subprocess
import sys
import threading

import pytest
from loops import LOOPS, run, sleep, until
from processes import wait_until, wait_until_listening

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop

ANSWERS = """
def answers(count):
    '''Take so many requests, and only then answer them, the last one first.'''
    taken = [device.take() for _ in range(count)]
    with device.interrupt.coalesce():
        for request in reversed(taken):
            request.complete(bytes(request.payload).upper())
"""


@pytest.fixture(params=LOOPS)
def loop(request):
    return request.param


def readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


async def gather(calls):
    """What each gives or raises, in order."""
    calls = list(calls)
    results = [None] * len(calls)

    async def one(number, call):
        try:
            results[number] = await call
        except (Exception, asyncio.CancelledError) as error:
            results[number] = error

    async with running_loop().tasks() as start:
        for number, call in enumerate(calls):
            start(one, number, call)
    return results


def waits_for(driver):
    """How many tasks wait for an answer."""
    return sum(not future.done() for future in driver._waiting.values())


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


# ---- cancelling ----


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


# ---- the end ----


@pytest.mark.parametrize(
    ("end", "error"),
    [
        ("kill", ringbell.PeerLost),
        ("close", ringbell.EndOfStream),
        ("give up", ringbell.PeerLost),
    ],
)
def test_every_task_learns_that_the_device_is_gone(loop, path, start, end, error):
    device = start("device")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:

            async def leave():
                # Some wait for an answer, and some for room.
                await until(loop, lambda: driver.in_flight and not driver._sending.is_free)
                if end == "kill":
                    device.kill()
                else:
                    device.run("device.close()" if end == "close" else "device._give_up()")

            *results, _ = await gather([*(driver.call(bytes(500)) for _ in range(20)), leave()])
            assert {type(result) for result in results} == {error}
            with pytest.raises(error):
                await driver.call(b"")

    run(loop, main)


def test_every_task_learns_that_its_side_has_closed(loop, path, start):
    start("device")

    async def main():
        async with aio.connect(path, ring_size=4096) as driver:

            async def close():
                await until(loop, lambda: driver.in_flight and not driver._sending.is_free)
                driver.close()

            *results, _ = await gather([*(driver.call(bytes(500)) for _ in range(20)), close()])
            assert {type(result) for result in results} == {ringbell.ChannelClosed}
            with pytest.raises(ringbell.ChannelClosed):
                await driver.call(b"")
            assert driver.stats().dwi > 0
            driver.close()

    run(loop, main)


def test_an_exception_in_the_block_gives_the_channel_up(loop, path, start):
    device = start("device")

    async def main():
        async with aio.connect(path):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(loop, main)
    device.begin("device.take()")
    with pytest.raises(Exception, match="PeerLost"):
        device.reply()


def test_a_loop_may_end_while_calls_are_in_flight(path, start):
    device = start("device")
    drivers = []

    async def main():
        driver = await aio.connect(path)
        drivers.append(driver)
        task = asyncio.create_task(driver.call(b"x"))
        await until("asyncio", lambda: driver.in_flight)
        assert not task.done()

    asyncio.run(main())
    (driver,) = drivers

    async def again():
        await driver.call(b"x")

    with pytest.raises(RuntimeError, match="belongs to another event loop"):
        asyncio.run(again())
    driver.close()
    assert device.run("bytes(device.take().payload)") == "b'x'"


def test_a_request_that_fails_says_why(loop, path, start):
    start("serve", handler="raises_on_bad")

    async def main():
        async with aio.connect(path) as driver:
            bad, good = await gather([driver.call(b"bad"), driver.call(b"good")])
            assert isinstance(bad, ringbell.RequestFailed)
            assert str(bad) == "ValueError: bad is not good"
            assert good == b"ok"

    run(loop, main)


# ---- opening ----


def test_connect_waits_for_its_device_while_the_loop_runs(loop, path, start):
    async def main():
        turns = 0

        async def others():
            nonlocal turns
            while not opened:
                turns += 1
                await sleep(loop, 0.001)

        async def connect():
            async with aio.connect(path, wait=True) as driver:
                assert await driver.call(b"x") == b"X"
            opened.append(True)

        async def begin():
            await until(loop, lambda: turns > 5)
            start("serve", wait=False, handler="upper")

        opened = []
        assert await gather([others(), connect(), begin()]) == [None] * 3

    run(loop, main)


def test_opening_that_is_cancelled_leaves_nothing(loop, path):
    async def main():
        for opening in (
            aio.connect(path, wait=True, timeout=None),
            aio.consume(path),
            aio.produce(path),
        ):
            with pytest.raises(TimeoutError):
                await running_loop().within(0.02, opening)
            assert "ringbell.aio" not in {t.name for t in threading.enumerate()}
            assert list(path.parent.iterdir()) == []

    run(loop, main)


def test_a_program_that_ends_while_it_opens_frees_the_name(path):
    """Here no task is cancelled: its loop is left as it is."""
    script = """
import asyncio, os, sys
from ringbell import aio

async def consume(path):
    await aio.consume(path)

async def main(path):
    tasks.append(asyncio.create_task(consume(path)))
    while not os.path.exists(path):
        await asyncio.sleep(0.001)

tasks = []
asyncio.new_event_loop().run_until_complete(main(sys.argv[1]))
"""
    subprocess.run([sys.executable, "-c", script, path], check=True, capture_output=True)
    assert list(path.parent.iterdir()) == []


def test_bad_options_are_refused(loop, path):
    async def main():
        with pytest.raises(ValueError, match="max_poll is from 0 to 0.01 seconds, not 0.02"):
            await aio.connect(path, max_poll=0.02)
        with pytest.raises(ValueError, match="power of two"):
            await aio.connect(path, ring_size=1000)
        with pytest.raises(ConnectionRefusedError, match="nobody listens"):
            await aio.connect(path)

    run(loop, main)


CALLS = """
import asyncio, sys
from ringbell import aio

async def main():
    async with aio.connect(sys.argv[1]) as driver:
        print("ready", flush=True)
        await driver.call(b"x")

asyncio.run(main())
"""


def test_ctrl_c_ends_a_program_that_awaits_an_answer(path, start):
    device = start("device")
    program = subprocess.Popen(
        [sys.executable, "-c", CALLS, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with program:
        try:
            assert program.stdout.readline() == b"ready\n"
            assert device.run("bytes(device.take().payload)") == "b'x'"
            program.send_signal(signal.SIGINT)
            _, messages = program.communicate()
        finally:
            program.kill()
    assert messages.rstrip().endswith(b"KeyboardInterrupt")
    assert program.returncode == -signal.SIGINT


def test_there_is_no_channel_without_a_loop(path, start):
    start("device")
    with pytest.raises(RuntimeError):
        aio.connect(path).__await__().send(None)
    wait_until_listening(path)
