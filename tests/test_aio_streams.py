# SPDX-License-Identifier: MIT
"""Streams in event loops: `aio.produce` and `aio.consume`, with the other side in a process."""

import contextlib
import threading

import numpy as np
import pytest
from loops import gather, run, sleep, until

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop


def test_messages_arrive_in_order_until_the_producer_closes(loop, path, start):
    producer = start("producer")
    producer.begin("[producer.send(b'%d' % i) for i in range(3000)] and producer.close()")

    async def main():
        async with aio.consume(path) as lines:
            assert await lines.recv() == b"0"
            some = await lines.recv_many(3)
            some += [bytes(view) async for view in lines]
            first = len(some)
            assert some == [b"%d" % i for i in range(1, first + 1)]
            assert first == 2999
            with pytest.raises(ringbell.EndOfStream):
                await lines.recv()

    run(loop, main)
    producer.reply()


def test_records_arrive_and_the_loop_runs_meanwhile(loop, path, start):
    producer = start("producer", dtype="'i8'")
    producer.begin(
        "[time.sleep(0.001) or producer.write(range(i, i + 10)) for i in range(0, 500, 10)]"
        " and producer.close()"
    )

    async def main():
        turns = 0
        over = False

        async def others():
            nonlocal turns
            while not over:
                turns += 1
                await sleep(loop, 0)

        async def take():
            nonlocal over
            async with aio.consume(path, dtype="i8") as ticks:
                assert ticks.dtype == np.dtype("i8")
                first = await ticks.read(3)
                second = (await ticks.borrow(2)).copy()
                rest = [rows.copy() async for rows in ticks]
            over = True
            return np.concatenate([first, second, *rest]).tolist()

        _, taken = await gather([others(), take()])
        assert taken == list(range(500))
        assert turns > 10

    run(loop, main)
    producer.reply()


def test_a_killed_producer_is_told_as_such(loop, path, start):
    producer = start("producer")
    producer.begin("producer.send(b'last')")

    async def main():
        async with aio.consume(path) as lines:
            assert await lines.recv() == b"last"
            producer.reply()

            async def kill():
                await until(loop, lambda: lines._waiter is not None)
                producer.kill()

            lost, _ = await gather([lines.recv(), kill()])
            assert isinstance(lost, ringbell.PeerLost)
            with pytest.raises(ringbell.PeerLost):
                async for _ in lines:
                    pass

    run(loop, main)


def test_cancelling_a_task_that_waits_loses_no_message(loop, path, start):
    producer = start("producer")

    async def main():
        async with aio.consume(path) as lines:
            producer.begin(
                "[time.sleep(0.0005) or producer.send(b'%d' % i) for i in range(400)]"
                " and producer.close()"
            )
            taken = []
            with contextlib.suppress(ringbell.EndOfStream):
                while True:
                    # Mostly too short; RingEmpty and TimeoutError are told apart below.
                    with contextlib.suppress(TimeoutError):
                        taken.append(await running_loop().within(0.0004, lines.recv()))
            assert taken == [b"%d" % i for i in range(400)]

    run(loop, main)
    producer.reply()


def test_a_timeout_a_second_task_and_closing_end_a_wait(loop, path, start):
    start("producer")

    async def main():
        async with aio.consume(path) as lines:
            with pytest.raises(ringbell.RingEmpty):
                await lines.recv(timeout=0.01)
            with pytest.raises(ringbell.RingEmpty):
                await lines.recv_many(timeout=0)

            async def second():
                await until(loop, lambda: lines._waiter is not None)
                with pytest.raises(RuntimeError, match="another task waits"):
                    await lines.recv()
                lines.close()

            closed, other = await gather([lines.recv(), second()])
            assert isinstance(closed, ringbell.ChannelClosed)
            assert other is None

    run(loop, main)


def test_a_full_ring_suspends_the_producer_and_not_the_loop(loop, path, start):
    consumer = start("consumer")

    async def main():
        async with aio.produce(path, ring_size=4096) as lines:
            messages = [b"%d " % i * (i % 300) for i in range(500)]

            async def begin():
                await until(loop, lambda: not lines._sending.is_free)
                await sleep(loop, 0.01)
                consumer.begin("[bytes(view) for view in consumer]")

            async def send():
                for message in messages[:250]:
                    await lines.send(message)
                assert await lines.send_many(messages[250:]) == 250
                await lines.send(bytes(20_000))

            assert await gather([send(), begin()]) == [None, None]
        assert consumer.reply() == repr([*messages, bytes(20_000)])

    run(loop, main)


def test_many_tasks_send_whole_messages(loop, path, start):
    consumer = start("consumer")
    consumer.begin("sorted(bytes(view) for view in consumer)")

    async def main():
        messages = [b"%04d" % i * 200 for i in range(100)]
        async with aio.produce(path, ring_size=4096) as lines:
            assert await gather(map(lines.send, messages)) == [None] * 100
        assert consumer.reply() == repr(sorted(messages))

    run(loop, main)


def test_sending_in_time_or_not_at_all(loop, path, start):
    consumer = start("consumer")

    async def main():
        async with aio.produce(path, ring_size=4096) as lines:
            sent = 0
            with pytest.raises(ringbell.RingFull):
                while True:
                    await lines.send(b"%d" % sent * 100, timeout=0.01)
                    sent += 1
            with pytest.raises(TimeoutError):
                await running_loop().within(0.01, lines.send(b"not sent"))
            consumer.begin("[bytes(view) for view in consumer]")
            assert await lines.send_many([b"a", b"b"]) == 2
        assert consumer.reply() == repr([*(b"%d" % i * 100 for i in range(sent)), b"a", b"b"])

    run(loop, main)


def test_records_are_written_in_parts_and_in_place(loop, path, start):
    consumer = start("consumer", dtype="'i4'")
    consumer.begin("sum([rows.tolist() for rows in consumer], [])")

    async def main():
        async with aio.produce(path, dtype="i4", ring_size=4096) as ticks:
            assert await ticks.write(range(5000)) == 5000
            assert await ticks.write(np.arange(5000, 5003, dtype="i4")) == 3
            assert await ticks.write([]) == 0
            with await ticks.reserve(2) as rows:
                rows[:] = 1, 2
            with pytest.raises(TypeError):
                await ticks.write(np.zeros(1, "f8"))
        assert consumer.reply() == repr([*range(5003), 1, 2])

    run(loop, main)


@pytest.mark.parametrize(("end", "error"), [("kill", "PeerLost"), ("close", "EndOfStream")])
def test_a_producer_that_waits_for_room_learns_that_its_consumer_is_gone(
    loop, path, start, end, error
):
    consumer = start("consumer")

    async def main():
        lines = await aio.produce(path, ring_size=4096)

        async def leave():
            await until(loop, lambda: not lines._sending.is_free)
            consumer.kill() if end == "kill" else consumer.run("consumer.close()")

        *results, _ = await gather([*(lines.send(bytes(1000)) for _ in range(10)), leave()])
        assert {type(result).__name__ for result in results} == {"NoneType", error}
        lines.close()

    run(loop, main)


def test_closing_ends_the_wait_for_room(loop, path, start):
    start("consumer")

    async def main():
        lines = await aio.produce(path, ring_size=4096)

        async def close():
            await until(loop, lambda: not lines._sending.is_free)
            lines.close()

        *results, _ = await gather([*(lines.send(bytes(1000)) for _ in range(10)), close()])
        assert {type(result).__name__ for result in results} == {"NoneType", "ChannelClosed"}
        await until(loop, lambda: "ringbell.aio" not in {t.name for t in threading.enumerate()})

    run(loop, main)


def test_both_sides_may_live_in_loops(loop, path):
    def consume_all():
        async def main():
            async with aio.consume(path, max_poll=1e-4) as lines:
                return [bytes(view) async for view in lines]

        taken.extend(run(loop, main))

    async def main():
        async with aio.produce(path, ring_size=4096) as lines:
            for number in range(1000):
                await lines.send(b"%d" % number)

    taken = []
    consumer = threading.Thread(target=consume_all)
    consumer.start()
    run(loop, main)
    consumer.join()
    assert taken == [b"%d" % number for number in range(1000)]
