# SPDX-License-Identifier: MIT
"""`aio.serve` and `aio.listen`: a loop that answers many drivers, which are other processes."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest
from loops import gather, readable, run, sleep, until
from processes import wait_until_listening

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop

SERVER = """
import asyncio, os, sys
from ringbell import aio
kept = []

def upper(payload):
    return bytes(payload).upper()

async def slow(payload):
    if payload == b"end":
        raise SystemExit(3)
    if payload[:4] == b"wait":
        await asyncio.sleep(3600)
    await asyncio.sleep(0)
    return bytes(payload).upper()

def same(payload):
    return payload

def bad(payload):
    text = bytes(payload)
    if text == b"raise":
        raise ValueError("not good")
    if text == b"number":
        return 5
    if text == b"keep":
        kept.append(payload[1:])
    if text == b"array":
        import numpy
        return numpy.frombuffer(payload, "u1")[1:]
    if text == b"pointers":
        import ctypes
        class Packed(ctypes.Structure):
            _pack_ = 1
            _fields_ = [("text", ctypes.c_char_p)]
        return Packed(b"abc")
    if text == b"long":
        return bytes(100_000)
    if text == b"exit":
        sys.exit(3)
    return payload[::-1]

async def bad_later(payload):
    await asyncio.sleep(0)
    return bad(payload)

options = eval(sys.argv[3])
run = asyncio.run
if sys.argv[4] == "trio":
    import trio
    async def slow(payload):
        if payload == b"end":
            raise SystemExit(3)
        await trio.sleep(3600 if payload[:4] == b"wait" else 0)
        return bytes(payload).upper()
    async def bad_later(payload):
        await trio.sleep(0)
        return bad(payload)
elif sys.argv[4] == "uvloop":
    import uvloop
    run = uvloop.run

async def main():
    await aio.serve(sys.argv[1], globals()[sys.argv[2]], **options)

if sys.argv[4] == "trio":
    trio.run(main)
else:
    run(main())
"""


@pytest.fixture
def serve(loop, path):
    """Serve in another process, in a loop of this kind."""
    with contextlib.ExitStack() as guard:

        def begin(handler, **options):
            server = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(path), handler, repr(options), loop],
                stderr=subprocess.PIPE,
                text=True,
            )
            guard.callback(server.communicate)
            guard.callback(server.kill)
            wait_until_listening(path)
            return server

        yield begin


@pytest.mark.parametrize("handler", ["upper", "slow"])
@pytest.mark.parametrize("max_poll", [0.0, 1e-4])
def test_many_drivers_are_served_at_once(serve, path, start, handler, max_poll):
    serve(handler, max_poll=max_poll)
    with contextlib.ExitStack() as guard:
        drivers = [guard.enter_context(ringbell.connect(path)) for _ in range(10)]
        for turn in range(20):
            for number, driver in enumerate(drivers):
                assert driver.call(b"r%d %d" % (turn, number)) == b"R%d %d" % (turn, number)
        asked = [b"x%d" % number for number in range(1000)]
        for driver in drivers[:3]:
            assert list(driver.map(asked)) == [one.upper() for one in asked]


def test_a_handler_that_waits_holds_nobody_up(serve, path):
    serve("slow")
    with ringbell.connect(path) as driver, ringbell.connect(path) as other:
        driver.submit(b"wait")
        assert driver.call(b"x") == b"X"
        assert other.call(b"x") == b"X"


@pytest.mark.parametrize("handler", ["bad", "bad_later"])
def test_what_a_handler_does_wrong_reaches_its_driver_alone(serve, path, handler):
    server = serve(handler)
    with ringbell.connect(path) as driver:
        with pytest.raises(ringbell.RequestFailed, match="ValueError: not good"):
            driver.call(b"raise")
        with pytest.raises(ringbell.RequestFailed, match="TypeError: the handler returned int"):
            driver.call(b"number")
        with pytest.raises(ringbell.RequestFailed, match="TypeError: .*pointers"):
            driver.call(b"pointers")
        assert driver.call(b"abc") == b"cba"
        assert driver.call(b"array") == b"rray"
        assert driver.call(b"long") == bytes(100_000)
        assert driver.call(b"") == b""
    server.kill()
    assert "not good" in server.stderr.read()


@pytest.mark.parametrize("handler", ["bad", "bad_later"])
def test_a_handler_may_end_the_serving(serve, path, handler):
    server = serve(handler)
    with ringbell.connect(path) as driver, ringbell.connect(path) as other:
        assert other.call(b"x") == b"x"  # now it is served
        with pytest.raises(ringbell.PeerLost):
            driver.call(b"exit")
        with pytest.raises(ringbell.EndOfStream):
            other.interrupt.recv()
    assert server.wait() == 3
    assert not path.exists()


def test_a_handler_that_keeps_its_payload_ends_the_serving(serve, path):
    server = serve("bad")
    with ringbell.connect(path) as driver, pytest.raises(ringbell.PeerLost):
        driver.call(b"keep")
    assert server.wait() == 1
    assert "BufferError" in server.stderr.read()


def test_slow_takers_of_answers_hold_up_themselves_only(serve, path):
    serve("same")
    with (
        ringbell.connect(path, ring_size=4096) as slow,
        ringbell.connect(path, ring_size=4096) as other,
    ):
        sent = 0
        with contextlib.suppress(ringbell.RingFull):
            while True:  # its answers do not fit, and it takes none
                slow.doorbell.send(bytes(500), token=1 << 40, timeout=0.05)
                sent += 1
        for number in range(100):
            assert other.call(b"%d" % number) == b"%d" % number
        assert [slow.interrupt.recv() for _ in range(sent)] == [bytes(500)] * sent


@pytest.mark.parametrize("handler", ["same", "slow"])
def test_a_ring_full_of_requests_is_answered(serve, path, handler):
    serve(handler)
    with ringbell.connect(path, ring_size=4096) as driver:
        asked = [b"%d" % number * 50 for number in range(500)]
        assert list(driver.map(asked, depth=500)) == asked


def test_requests_that_hold_every_slot_wait_for_their_handlers(serve, path):
    serve("slow")
    with ringbell.connect(path, ring_size=4096) as driver:
        with contextlib.suppress(ringbell.RingFull):
            while True:
                driver.submit(b"wait" * 200, timeout=0.05)
        with ringbell.connect(path) as other:
            assert other.call(b"x") == b"X"


def test_killed_drivers_harm_nobody(serve, path, start):
    serve("slow")
    with ringbell.connect(path) as driver:
        for _ in range(5):
            peer = start("driver")
            peer.run("[driver.submit(b'wait') for _ in range(10)]")
            peer.kill()
            assert driver.call(b"x") == b"X"


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_handler_that_waited_for_what_was_cancelled_fails_its_request(path, is_coroutine):
    """trio has no such thing: there only the scope that a task is in cancels it."""

    def result(payload):
        if payload == b"cancelled":
            other = asyncio.get_running_loop().create_future()
            other.cancel()
            other.result()
        return bytes(payload)

    async def awaited(payload):
        return result(payload)

    async def main():
        serving = asyncio.create_task(aio.serve(path, awaited if is_coroutine else result))
        async with aio.connect(path, wait=True) as driver:
            with pytest.raises(ringbell.RequestFailed, match="something that was cancelled"):
                await driver.call(b"cancelled")
            assert await driver.call(b"next") == b"next"
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())


def test_ctrl_c_ends_the_serving_and_frees_the_name(serve, path):
    server = serve("upper")
    with ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"X"
        server.send_signal(signal.SIGINT)
        with pytest.raises(ringbell.EndOfStream):
            driver.interrupt.recv()
    assert server.wait() != 0
    assert "KeyboardInterrupt" in server.stderr.read()
    assert not path.exists()


def test_an_idle_server_sleeps(serve, path):
    server = serve("upper", max_poll=1e-4)
    with ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"X"

        def turns():
            with open(f"/proc/{server.pid}/status") as status:
                return [line for line in status if line.startswith("voluntary_ctxt")]

        before = None
        while turns() != before:  # hangs if it goes on to wake up
            before = turns()
            os.sched_yield()


# ---- devices by hand ----


def test_a_device_takes_and_answers_by_hand(loop, path, start):
    async def main():
        async with aio.listen(path) as listener:
            assert listener.path == path
            peer = start("driver", wait=False)
            async with await listener.accept() as device:
                assert peer.reply() == "ready"
                peer.begin(
                    "driver.call(b'one'), list(driver.map([b'two', b'three'])), driver.close()"
                )
                first = await device.take()
                assert bytes(first.payload) == b"one"
                await first.complete(first.payload[1:])
                async for request in device:
                    await request.complete(bytes(request.payload).upper())
                assert peer.reply() == "(b'ne', [b'TWO', b'THREE'], None)"
                with pytest.raises(RuntimeError, match="answered before"):
                    await first.complete()

    run(loop, main)


def test_a_request_may_fail_and_a_take_may_time_out(loop, path, start):
    async def main():
        async with aio.listen(path) as listener:
            peer = start("driver", wait=False)
            async with await listener.accept() as device:
                peer.reply()
                with pytest.raises(ringbell.RingEmpty):
                    await device.take(timeout=0.01)
                peer.begin("driver.call(b'x')")
                request = await device.take()
                await request.fail("no")
                with pytest.raises(Exception, match="RequestFailed: no"):
                    peer.reply()

                async def close():
                    await until(loop, lambda: device._waiter is not None)
                    device.close()

                closed, _ = await gather([device.take(), close()])
                assert isinstance(closed, ringbell.ChannelClosed)

    run(loop, main)


def test_an_accept_that_is_cancelled_loses_no_driver(loop, path, start):
    async def main():
        async with aio.listen(path) as listener:
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    await running_loop().within(0.005, listener.accept())

            async def connect():
                await until(loop, lambda: listener._waiter is not None)
                with pytest.raises(RuntimeError, match="another task waits"):
                    await listener.accept()
                return start("driver", wait=False)

            device, peer = await gather([listener.accept(), connect()])
            assert peer.reply() == "ready"
            async with device:
                pass

    run(loop, main)


def test_closing_a_listener_ends_accept(loop, path):
    async def main():
        listener = await aio.listen(path)

        async def close():
            await sleep(loop, 0.01)
            listener.close()

        closed, _ = await gather([listener.accept(), close()])
        assert isinstance(closed, ringbell.ChannelClosed)
        with pytest.raises(ringbell.ChannelClosed):
            await listener.accept()
        with pytest.raises(TypeError, match="the handler is a function"):
            await aio.serve(path, "no function")

    run(loop, main)


def test_serving_that_is_cancelled_tells_its_drivers(loop, path, start):
    async def main():
        taken = []

        async def wait(payload):
            taken.append(bytes(payload))
            await sleep(loop, 3600)

        async def serve_until_stopped():
            async def stop():
                busy = start("driver", wait=False)
                idle = start("driver", wait=False)
                peers.extend([busy, idle])
                for peer in peers:
                    await until(loop, lambda said=peer.process.stdout: readable(said))
                assert [busy.reply(), idle.reply()] == ["ready", "ready"]
                busy.begin("driver.call(b'x')")
                await until(loop, lambda: taken)
                raise ZeroDivisionError

            async with running_loop().tasks() as begin:
                begin(aio.serve, path, wait)
                await until(loop, path.exists)
                begin(stop)

        peers = []
        with pytest.raises(BaseExceptionGroup) as raised:
            await serve_until_stopped()
        assert raised.group_contains(ZeroDivisionError)
        busy, idle = peers
        with pytest.raises(Exception, match="PeerLost"):
            busy.reply()
        with pytest.raises(Exception, match="EndOfStream"):
            idle.run("driver.interrupt.recv()")
        assert not path.exists()

    run(loop, main)
