# SPDX-License-Identifier: MIT
"""One consumer for many producers in an event loop: `aio.gather`."""

import contextlib
import selectors
import signal
import socket
import threading

import pytest
from gathered import SEND, numbers_of, take_some
from kinds import KINDS
from loops import gather as run_all
from loops import run, sleep, until

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop
from ringbell.meeting import reception


async def take(logs, count):
    """Take so many entries; give pairs of the sender and the number that it sent."""
    taken = []
    while len(taken) < count:
        producer, entries = await logs.take()
        numbers = [int(bytes(entries))] if isinstance(entries, memoryview) else entries.tolist()
        taken += [(producer.pid, number) for number in numbers]
    return taken


async def meet(loop, logs, count):
    """Let producers in until so many are connected; they have sent nothing yet."""
    while len(logs.producers) < count:
        with pytest.raises(ringbell.RingEmpty):
            await logs.take(timeout=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_each_producer_arrives_in_order_and_the_loop_runs_meanwhile(loop, path, start, kind):
    peers = [start("nothing") for _ in range(4)]
    for peer in peers:
        peer.begin(
            f"producer = ringbell.produce(path, ring_size=4096, **{KINDS[kind]!r})\n"
            "for i in range(1000):\n"
            f" time.sleep(0 if i % 100 else 0.001); {SEND[kind] % 0}\n".replace(
                "b'0'", "b'%d' % i"
            ).replace("[0]", "[i]")
            + "producer.close()"
        )

    async def main():
        turns = 0

        async def others():
            nonlocal turns
            while not over:
                turns += 1
                await sleep(loop, 0)

        async def loop_over():
            async with aio.gather(path) as logs:
                async for producer, entries in logs:
                    one = kind == "messages"
                    numbers = [int(bytes(entries))] if one else entries.tolist()
                    taken.extend((producer.pid, number) for number in numbers)
                    if len(taken) == 4000:
                        break
            over.append(True)

        over, taken = [], []
        await run_all([others(), loop_over()])
        assert turns > 10
        return taken

    taken = run(loop, main)
    for peer in peers:
        peer.reply()
        assert numbers_of(taken, peer.pid) == list(range(1000))


def test_who_comes_and_goes_is_told_in_the_loop(loop, path, start):
    first, second = start("nothing"), start("nothing")
    first.begin("producer = ringbell.produce(path)")
    told = []

    def arrived(producer):
        told.append(("came", producer.pid, threading.get_ident()))

    def left(producer):
        told.append(("lost" if producer.lost else "left", producer.pid, threading.get_ident()))

    async def main():
        async with aio.gather(path, arrived=arrived, left=left) as logs:
            await meet(loop, logs, 1)
            first.reply()
            second.begin("producer = ringbell.produce(path)")
            await meet(loop, logs, 2)
            second.reply()
            first.run("producer.send(b'1')")
            first.signal(signal.SIGKILL)
            second.run("producer.send(b'2'); producer.close()")
            assert sorted(await take(logs, 2)) == sorted([(first.pid, 1), (second.pid, 2)])
            while logs.producers:
                with pytest.raises(ringbell.RingEmpty):
                    await logs.take(timeout=0.01)

    run(loop, main)
    me = threading.get_ident()
    came = [("came", first.pid, me), ("came", second.pid, me)]
    assert told[:2] == came
    assert sorted(told[2:]) == sorted([("lost", first.pid, me), ("left", second.pid, me)])


def test_what_arrived_raises_comes_out_and_the_name_is_free(loop, path, start):
    peer = start("nothing")
    peer.begin("producer = ringbell.produce(path)")

    def arrived(_producer):
        raise InterruptedError

    async def main():
        with pytest.raises(InterruptedError):
            async with aio.gather(path, arrived=arrived) as logs:
                await logs.take()
        ringbell.gather(path).close()

    run(loop, main)
    peer.reply()


def test_cancelling_a_task_that_waits_loses_nothing(loop, path, start):
    peer = start("nothing")
    peer.begin("producer = ringbell.produce(path)")

    async def main():
        async with aio.gather(path) as logs:
            await meet(loop, logs, 1)
            peer.reply()
            peer.begin("[time.sleep(0.0005) or producer.send(b'%d' % i) for i in range(500)]")
            taken = []
            while len(taken) < 500:
                with contextlib.suppress(TimeoutError):
                    await running_loop().within(0.001, take_all(logs, taken))
            assert taken == list(range(500))

    async def take_all(logs, taken):
        while len(taken) < 500:
            _producer, payload = await logs.take()
            taken.append(int(bytes(payload)))

    run(loop, main)
    peer.reply()


def test_another_task_may_close_and_no_other_may_take(loop, path):
    async def main():
        logs = await aio.gather(path)

        async def close():
            await until(loop, lambda: logs._waiter is not None)
            with pytest.raises(RuntimeError, match="another task waits in this Gather"):
                await logs.take()
            logs.close()
            logs.close()

        waited, _ = await run_all([logs.take(), close()])
        assert isinstance(waited, ringbell.ChannelClosed)
        with pytest.raises(ringbell.ChannelClosed, match="this gather has been closed"):
            await logs.take()
        with pytest.raises(ringbell.ChannelClosed):
            async for _ in logs:
                pass

    run(loop, main)


def test_an_idle_gather_sleeps(loop, path, start):
    peers = [start("nothing") for _ in range(3)]
    for peer in peers:
        peer.begin("producer = ringbell.produce(path)")

    async def main():
        async with aio.gather(path) as logs:
            await meet(loop, logs, 3)
            with pytest.raises(ringbell.RingEmpty):
                await logs.take(timeout=0.05)
            before = logs._end._waiter._counts()
            with pytest.raises(ringbell.RingEmpty):
                await logs.take(timeout=0.3)
            # One look at the beginning; nothing wakes it meanwhile.
            assert logs._end._waiter._counts()[0] <= before[0] + 1

    run(loop, main)
    for peer in peers:
        peer.reply()


def test_one_who_connects_and_says_nothing_is_sent_away(loop, path, start, monkeypatch):
    """Nothing else happens, and the task that waits is not woken for anything else."""
    monkeypatch.setattr(reception, "_FIRST_WORDS", 0.2)
    peer = start("nothing")

    async def sent_away(silent):
        while True:
            with contextlib.suppress(BlockingIOError):
                assert b"said nothing" in silent.recv(1000)
                peer.begin("producer = ringbell.produce(path); producer.send(b'1')")
                return
            await sleep(loop, 0.01)

    async def main():
        async with aio.gather(path) as logs:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
                silent.setblocking(False)
                silent.connect(str(path))
                taken, told = await run_all([take(logs, 1), sent_away(silent)])
        assert (taken, told) == ([(peer.pid, 1)], None)

    run(loop, main)
    peer.reply()


# ---- in a loop of one's own ----


def test_a_gather_in_a_selector(path, start):
    peers = [start("nothing") for _ in range(3)]
    with ringbell.gather(path, polling="never") as logs, selectors.DefaultSelector() as selector:
        selector.register(logs, selectors.EVENT_READ)
        for number, peer in enumerate(peers):
            peer.begin(
                "with ringbell.produce(path) as producer:\n"
                " for i in range(1000):\n"
                f"  time.sleep(0.001 * (i % 50 == {number})); producer.send(b'%d' % i)"
            )
        taken = []
        while len(taken) < 3000:
            selector.select()
            with contextlib.suppress(ringbell.RingEmpty):
                while True:
                    producer, payload = logs.take(timeout=0)
                    taken.append((producer.pid, int(bytes(payload))))
        for peer in peers:
            peer.reply()
            assert numbers_of(taken, peer.pid) == list(range(1000))


def test_what_came_before_anybody_asked_for_the_descriptor(path, start):
    peer = start("nothing")
    with ringbell.gather(path) as logs, selectors.DefaultSelector() as selector:
        peer.begin("producer = ringbell.produce(path)")
        while not logs.producers:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.01)
        peer.reply()
        peer.run("producer.send(b'1')")
        selector.register(logs, selectors.EVENT_READ)
        assert selector.select()
        assert take_some(logs, 1) == [(peer.pid, 1)]
