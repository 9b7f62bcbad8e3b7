# SPDX-License-Identifier: MIT
"""Requests and answers by reference, and blocks in everything that is built on messages."""

import asyncio
import threading

import launched
import numpy as np
import pytest
from by_reference import LEAST, payload
from processes import wait_until

import ringbell
from ringbell import aio

ONE = {"pool": LEAST, "least": LEAST, "when_lent": "wait"}
FOUR = {"pool": 4 * LEAST, "least": LEAST, "when_lent": "wait"}


def test_requests_and_answers_go_by_reference(start, connect):
    start("serve", handler="upper", blocks=FOUR)
    driver = connect(blocks=ringbell.Blocks(**FOUR))
    for number in range(50):
        assert driver.call(payload(number), timeout=30) == payload(number)
        assert driver.call(b"small", timeout=30) == b"SMALL"
    stats = driver.stats()
    assert (stats.driver.blocks.sent, stats.device.blocks.sent) == (50, 50)
    assert stats.driver.blocks.copied == stats.device.blocks.copied == 0


@pytest.mark.parametrize("pool", [ONE, FOUR, FOUR | {"when_lent": "copy"}])
def test_map_goes_on_whatever_the_pools_have(start, connect, pool):
    start("serve", handler="upper", blocks=pool)
    driver = connect(blocks=ringbell.Blocks(**pool))
    sizes = (8, LEAST, LEAST, 2 * LEAST, 8 * LEAST)
    payloads = [payload(number, sizes[number % 5]) for number in range(200)]
    assert list(driver.map(payloads, timeout=30)) == payloads


def test_a_completed_request_gives_its_block_back_at_once(pair):
    driver, device = pair(blocks=ringbell.Blocks(**ONE))
    for number in range(5):
        driver.submit(payload(number), timeout=0)
        request = device.take()
        assert bytes(request.payload) == payload(number)
        view = request.payload
        request.complete(view[:8])
        with pytest.raises(ValueError, match="released"):
            bytes(view)
        assert driver.reap().payload == b"%08d" % number
    assert driver.stats().driver.blocks.sent == 5
    assert request.token == 5  # it is still there


def test_an_array_of_a_request_in_a_block_keeps_it_from_being_completed(pair):
    driver, device = pair(blocks=ringbell.Blocks(**ONE))
    driver.submit(payload(1))
    request = device.take()
    array = np.frombuffer(request.payload, "S8")
    with pytest.raises(BufferError, match="request 1 is still in use"):
        request.complete(b"")
    assert (array == b"00000001").all()
    del array
    request.complete(request.payload)
    assert driver.reap().payload == payload(1)


def test_a_held_request_stays_after_its_completion(pair):
    driver, device = pair(blocks=ringbell.Blocks(**FOUR))
    kept = []
    for number in range(3):
        driver.submit(payload(number))
        request = device.take()
        kept.append(request.hold())
        again = request.hold()
        request.complete(b"kept")
        assert driver.reap().payload == b"kept"
        again.release()
        with pytest.raises(ValueError, match="released"):
            request.hold()
    assert [bytes(view) for view in kept] == [payload(number) for number in range(3)]
    driver.submit(payload(3), timeout=0)
    with pytest.raises(ringbell.RingFull, match="no block was free"):
        driver.submit(payload(4), timeout=0)
    kept.pop(0)
    driver.submit(payload(4), timeout=0)
    driver.submit(b"small", timeout=0)
    requests = [device.take() for _ in range(3)]
    assert requests[2].hold() == b"small"
    assert isinstance(requests[2].hold(), bytes)
    for request in requests:
        request.fail("x" * LEAST)
    assert [driver.reap().ok for _ in range(3)] == [False] * 3


def test_a_request_is_written_in_place(start, connect):
    start("serve", handler="upper")
    driver = connect(blocks=ringbell.Blocks(pool=64 * LEAST, least=LEAST))
    with driver.reserve(40 * LEAST) as frame:  # more than the ring has
        frame.payload[:] = payload(1, 40 * LEAST)
    completion = driver.reap()
    assert completion.token == frame.token
    assert completion.payload == payload(1, 40 * LEAST)


def test_a_device_that_waits_for_a_block_goes_on_when_the_driver_takes(start, connect):
    """Answers lie in one block, and the driver sends more than it takes for a while."""
    start("serve", handler="upper", blocks=ONE)
    driver = connect()
    tokens = [driver.submit(payload(number)) for number in range(12)]
    answers = {c.token: c.payload for c in (driver.reap(timeout=30) for _ in tokens)}
    assert [answers[token] for token in tokens] == [payload(number) for number in range(12)]


def test_a_request_in_a_block_may_be_too_long(start, connect):
    start("serve", handler="upper", max_message=LEAST)
    driver = connect(blocks=ringbell.Blocks(**FOUR))
    for _ in range(3):
        with pytest.raises(ringbell.RequestFailed, match=f"at most {LEAST}"):
            driver.call(payload(1, 4 * LEAST), timeout=30)
        assert driver.call(payload(1), timeout=30) == payload(1)
    assert driver.stats().driver.blocks.copied == 0


def test_long_requests_and_answers_go_through_their_blocks_in_parts(start, connect):
    pool = {"pool": 64 << 20, "least": LEAST, "when_lent": "wait"}
    start("serve", handler="upper", blocks=pool)
    driver = connect(blocks=ringbell.Blocks(**pool))
    long = [payload(number, 24 << 20) for number in range(4)]
    assert driver.call(long[0], timeout=60) == long[0]
    assert list(driver.map(long, timeout=60)) == long
    stats = driver.stats()
    assert (stats.driver.blocks.sent, stats.device.blocks.sent) == (5, 5)
    assert stats.driver.blocks.copied == stats.device.blocks.copied == 0


# ---- answers that are held ----


def test_an_answer_by_reference_may_be_held(start, connect):
    start("serve", handler="upper", blocks=FOUR)
    driver = connect()
    held = [driver.call_and_hold(payload(number), timeout=30) for number in range(3)]
    assert all(isinstance(view, memoryview) and view.readonly for view in held)
    assert driver.call_and_hold(b"small", timeout=30) == b"SMALL"
    assert driver.stats().device.blocks == ringbell.BlockCounters(sent=3, copied=0, lent=3)
    for number in range(3, 20):  # in the block that is left
        assert driver.call_and_hold(payload(number), timeout=30) == payload(number)
    del held[1]
    held += [driver.call_and_hold(payload(20 + number), timeout=30) for number in range(2)]
    numbers = [int(bytes(view[:8])) for view in held]
    assert numbers == [0, 2, 20, 21]
    driver.close()
    assert [bytes(view) for view in held] == [payload(number) for number in numbers]


def test_only_the_answer_that_the_call_waits_for_is_held(pair):
    """What is set aside meanwhile is copied, so that the device gets those blocks back."""
    driver, device = pair(listen={"blocks": ringbell.Blocks(**FOUR)})
    tokens = [driver.submit(b"") for _ in range(20)]

    def answer():
        for number in range(21):
            device.take().complete(payload(number))

    thread = threading.Thread(target=answer)
    thread.start()
    held = driver.call_and_hold(b"", timeout=30)
    thread.join()
    assert isinstance(held, memoryview)
    assert held == payload(20)
    answers = [driver.reap() for _ in tokens]
    assert [one.payload for one in answers] == [payload(number) for number in range(20)]
    assert all(isinstance(one.payload, bytes) for one in answers)


def test_a_failure_in_a_block_is_a_failure_and_gives_it_back(pair):
    driver, device = pair(listen={"blocks": ringbell.Blocks(**ONE)})

    def fail():
        for _ in range(5):
            device.take().fail("x" * LEAST)

    thread = threading.Thread(target=fail)
    thread.start()
    for _ in range(5):
        with pytest.raises(ringbell.RequestFailed, match="x" * 100):
            driver.call_and_hold(b"", timeout=30)
    thread.join()


def test_a_held_answer_gives_no_block_to_a_call_that_was_given_up(pair):
    driver, device = pair(listen={"blocks": ringbell.Blocks(**ONE)})
    with pytest.raises(ringbell.RingEmpty):
        driver.call_and_hold(b"", timeout=0)
    device.take().complete(payload(1))
    driver.submit(b"")
    device.take().complete(b"next")
    assert driver.reap().payload == b"next"
    driver.submit(b"")
    device.take().complete(payload(2))
    assert driver.reap().payload == payload(2)
    assert driver.stats().device.blocks.copied == 0


def test_the_arrays_of_an_answer_may_be_held(start, connect):
    start("device", codec="pickle", blocks=FOUR).begin("""
for request in device:
    request.complete(request.payload)
""")
    driver = connect(codec="pickle")
    for number in range(20):
        sent = {"number": number, "array": np.full(LEAST - 4096, number, "u1")}
        assert driver.call(sent, timeout=30)["array"].flags.writeable
    held = [driver.call_and_hold(np.full(LEAST, number, "u1"), timeout=30) for number in range(2)]
    assert not held[0].flags.writeable
    assert [(one == number).all() for number, one in enumerate(held)] == [True] * 2
    assert driver.call_and_hold("small", timeout=30) == "small"
    assert driver.stats().device.blocks.lent == 2
    driver.close()
    assert (held[1] == 1).all()


def test_a_killed_device_leaves_what_was_sent_to_the_driver(start, connect):
    device = start("device", blocks=FOUR)
    driver = connect(blocks=ringbell.Blocks(**FOUR))
    for number in range(4):
        driver.submit(payload(number))
    device.run("held = [device.take() for _ in range(4)]")
    device.run("held[0].complete(held[0].payload)")
    device.kill()
    assert driver.reap().payload == payload(0)
    with pytest.raises(ringbell.PeerLost):
        driver.reap()


def test_a_launched_device_and_a_pool_take_the_option():
    blocks = ringbell.Blocks(**FOUR)
    with ringbell.launch(launched.digest, blocks=blocks) as driver:
        assert driver.call(payload(1)) == launched.digest(payload(1))
        assert driver.stats().driver.blocks.sent == 1
    with ringbell.Pool(launched.echo, workers=2, blocks=blocks) as pool:
        payloads = [payload(number, (1 + number % 3) * LEAST) for number in range(40)]
        assert list(pool.map(payloads)) == payloads


def test_a_gather_takes_blocks_of_all_producers(start, path):
    producers = [start("producer", blocks=FOUR) for _ in range(2)]
    taken = []
    with ringbell.gather(path) as gather:
        for number, producer in enumerate(producers):
            producer.begin(f"[producer.send(b'%08d' % {number} * 8192) for _ in range(20)]")
        for _, view in gather:
            taken.append(bytes(view))
            if len(taken) == 40:
                break
    assert sorted(taken) == [payload(0)] * 20 + [payload(1)] * 20
    for producer in producers:
        producer.reply()


# ---- event loops ----


def test_tasks_hold_blocks_and_wait_for_them(path):
    blocks = ringbell.Blocks(**FOUR)

    async def both():
        consuming = aio.consume(path)
        producing = aio.produce(path, blocks=blocks)
        async with asyncio.timeout(30):
            consumer, producer = await asyncio.gather(consuming, producing)
            async with consumer, producer:
                held = []
                for number in range(4):
                    await producer.send(payload(number))
                    held.append(await consumer.hold())
                sending = asyncio.ensure_future(producer.send(payload(4)))
                while not producer.stats().driver.producer.sleeps:
                    await asyncio.sleep(0.001)
                assert not sending.done()
                with pytest.raises(ringbell.RingFull):
                    await producer.send(payload(5), timeout=0.01)
                assert bytes(held.pop(1)) == payload(1)
                await sending
                held.append(await consumer.hold())
                return [bytes(view[:8]) for view in held]

    expected = [b"00000000", b"00000002", b"00000003", b"00000004"]
    assert asyncio.run(both()) == expected


def test_tasks_send_what_no_block_is_free_for_through_the_ring(path):
    blocks = ringbell.Blocks(pool=4 * LEAST, least=LEAST)

    async def both():
        async with asyncio.timeout(30):
            consumer, producer = await asyncio.gather(
                aio.consume(path), aio.produce(path, ring_size=LEAST, blocks=blocks)
            )
            async with consumer, producer:
                held = []
                for number in range(4):
                    await producer.send(payload(number))
                    held.append(await consumer.hold())
                sending = asyncio.ensure_future(producer.send(payload(4)))  # in pieces
                assert await consumer.hold() == payload(4)
                await sending

    asyncio.run(both())


def test_a_served_task_holds_its_request(path):
    kept = []

    async def both():
        async with asyncio.timeout(30), aio.listen(path) as listener:
            accepting = asyncio.ensure_future(listener.accept())
            driver = await aio.connect(path, blocks=ringbell.Blocks(**FOUR))
            async with driver, await accepting as device:
                calling = asyncio.ensure_future(driver.call(payload(1)))
                request = await device.take()
                kept.append(request.hold())
                await request.complete(b"done")
                assert await calling == b"done"

    asyncio.run(both())
    assert bytes(kept[0]) == payload(1)


def test_a_descriptor_tells_of_a_message_in_a_block(start, consume):
    producer = start("producer", blocks=FOUR)
    consumer = consume()
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0)
    consumer.fileno()
    for number in range(10):
        producer.begin(f"time.sleep(0.002); producer.send(b'%08d' % {number} * 8192)")
        assert ringbell.wait([consumer], timeout=30) == [consumer]
        assert bytes(consumer.hold(timeout=0)) == payload(number)
        with pytest.raises(ringbell.RingEmpty):
            consumer.hold(timeout=0)
        producer.reply()


def test_two_threads_of_a_side_wait_for_a_block_and_for_data(start, path):
    """Both sleep; the block and the message each wake the right one."""
    device = start("device")
    with ringbell.connect(path, polling="never", blocks=ringbell.Blocks(**FOUR)) as driver:
        for number in range(4):
            driver.doorbell.send(payload(number))
        device.run("held = [device.doorbell.hold() for _ in range(4)]")
        got = []
        for _ in range(30):
            sleeps = driver.stats().driver.producer.sleeps + driver.stats().driver.consumer.sleeps
            threads = [
                threading.Thread(target=lambda: got.append(driver.interrupt.recv())),
                threading.Thread(target=lambda: driver.doorbell.send(payload(9))),
            ]
            for thread in threads:
                thread.start()

            def both_sleep(before=sleeps):
                side = driver.stats().driver
                return side.producer.sleeps + side.consumer.sleeps >= before + 2

            wait_until(both_sleep)
            device.run("del held[0]")
            device.run("held.append(device.doorbell.hold())")
            device.run("device.interrupt.send(b'x')")
            for thread in threads:
                thread.join()
            assert got.pop() == b"x"


# ---- objects ----


def test_objects_go_through_blocks(start, connect):
    start("device", codec="pickle", blocks=FOUR).begin("""
for request in device:
    request.complete(request.payload)
""")
    driver = connect(codec="pickle", blocks=ringbell.Blocks(**FOUR))
    for number in range(20):
        sent = {"number": number, "array": np.full(LEAST, number % 250, "u1"), "text": "x" * 100}
        got = driver.call(sent, timeout=30)
        assert (got["array"] == sent["array"]).all()
        assert (got["number"], got["text"]) == (number, "x" * 100)
    stats = driver.stats()
    assert (stats.driver.blocks.sent, stats.device.blocks.sent) == (20, 20)


@pytest.mark.parametrize("take", ["recv", "hold", "borrow"])
def test_objects_of_a_stream_go_through_blocks(stream, take):
    producer, consumer = stream(
        codec="pickle", blocks=ringbell.Blocks(**FOUR), consume={"codec": "pickle"}
    )
    for number in range(10):
        producer.send([number, np.full(LEAST, number, "u1")], timeout=0)
        got = getattr(consumer, take)()
        assert got[0] == number
        assert (got[1] == number).all()
        del got
    assert producer.stats().driver.blocks.sent == 10


def test_a_request_with_an_object_may_be_held(pair):
    driver, device = pair(
        codec="pickle", listen={"codec": "pickle"}, blocks=ringbell.Blocks(**FOUR)
    )
    driver.submit(np.full(LEAST, 7, "u1"))
    request = device.take()
    kept = request.hold()
    request.complete(None)
    assert driver.reap().result() is None
    assert (kept == 7).all()
