# SPDX-License-Identifier: MIT
"""How calls from an event loop begin and end: opening, closing, and a device that is gone."""

import asyncio
import signal
import subprocess
import sys
import threading

import pytest
from loops import gather, run, sleep, until
from processes import wait_until_listening

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop

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
