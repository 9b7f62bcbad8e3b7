# SPDX-License-Identifier: MIT
"""Publications in event loops: `aio.publish` and `aio.subscribe`, the other side in a process."""

import contextlib

import numpy as np
import pytest
from loops import gather, run, sleep, until
from processes import wait_until_listening

import ringbell
from ringbell import aio
from ringbell.aio.loop import running_loop


@pytest.fixture
def publisher(start, path):
    """Start a process that publishes."""

    def publish(*arguments, **options):
        peer = start("nothing")
        said = ", ".join(
            [*map(repr, arguments), *(f"{name}={what!r}" for name, what in options.items())]
        )
        peer.run(f"publisher = ringbell.publish(path, {said})")
        return peer

    return publish


@pytest.fixture
def subscriber(start, path):
    """Start a process that subscribes to what is published already."""

    def subscribe():
        peer = start("nothing")
        peer.begin("subscriber = ringbell.subscribe(path)")
        return peer

    return subscribe


# ---- subscribing ----


def test_every_message_comes_in_order_until_the_publisher_closes(loop, path, publisher):
    peer = publisher()

    async def main():
        async with aio.subscribe(path) as lines:
            peer.begin("[publisher.send(b'%d' % i) for i in range(3000)] and publisher.close()")
            assert await lines.recv() == b"0"
            some = await lines.recv_many(3)
            some.append(await lines.hold())
            with await lines.borrow() as view:
                some.append(bytes(view))
            async for view in lines:
                assert isinstance(view, memoryview)
                some.append(bytes(view))
            assert some == [b"%d" % i for i in range(1, 3000)]
            assert lines.missed == 0
            with pytest.raises(ringbell.EndOfStream):
                await lines.recv()

    run(loop, main)
    peer.reply()


def test_every_record_comes_and_the_loop_runs_meanwhile(loop, path, publisher):
    peer = publisher("i8")

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
            async with aio.subscribe(path, dtype="i8") as ticks:
                peer.begin(
                    "[time.sleep(0.001) or publisher.write(range(i, i + 10))"
                    " for i in range(0, 500, 10)] and publisher.close()"
                )
                assert ticks.dtype == np.dtype("i8")
                parts = [await ticks.read(3)]
                with await ticks.borrow(2) as rows:
                    parts.append(rows.copy())
                parts += [rows.copy() async for rows in ticks]
            over = True
            return np.concatenate(parts).tolist()

        _, taken = await gather([others(), take()])
        assert taken == list(range(500))
        assert turns > 10

    run(loop, main)
    peer.reply()


@pytest.mark.parametrize("dtype", [None, "i8"])
def test_what_was_taken_and_missed_is_all_that_was_published(loop, path, publisher, dtype):
    peer = publisher(dtype, keep="newest", ring_size=4096)
    send = "publisher.send(b'%d' % i)" if dtype is None else "publisher.write([i])"

    async def main():
        async with aio.subscribe(path) as numbers:
            peer.begin(f"[{send} for i in range(1, 20_001)] and publisher.close()")
            last = taken = 0
            async for some in numbers:
                some = [int(some)] if dtype is None else some.tolist()
                assert some[0] > last
                last, taken = some[-1], taken + len(some)
                assert taken + numbers.missed == last
            assert last == 20_000

    run(loop, main)
    peer.reply()


@pytest.mark.parametrize("keep", ["all", "newest"])
@pytest.mark.parametrize("dtype", [None, "i8"])
def test_the_latest_is_the_newest_or_is_waited_for(loop, path, publisher, keep, dtype):
    peer = publisher(dtype, keep=keep)
    send = "[publisher.send(b'%d' % i)" if dtype is None else "[publisher.write([i])"

    async def main():
        async with aio.subscribe(path) as numbers:
            peer.run(f"{send} for i in range(10)]")
            assert int(await numbers.latest()) == 9
            assert numbers.missed == 9
            with pytest.raises(ringbell.RingEmpty):
                await numbers.latest(timeout=0.001)

            async def publish_later():
                await until(loop, lambda: numbers._waiter is not None)
                peer.run(f"{send} for i in range(10, 11)]")

            newer, _ = await gather([numbers.latest(), publish_later()])
            assert int(newer) == 10

    run(loop, main)


def test_what_was_borrowed_and_overwritten_is_told(loop, path, publisher):
    peer = publisher(keep="newest", ring_size=4096)

    async def main():
        async with aio.subscribe(path) as lines:
            peer.run("publisher.send(b'first')")
            with pytest.raises(ringbell.Overwritten), await lines.borrow() as view:
                assert bytes(view) == b"first"
                peer.run("[publisher.send(b'%d' % i) for i in range(1000)]")
            assert await lines.latest() == b"999"
            peer.run("publisher.send(b'whole')")
            with await lines.borrow() as view:
                assert bytes(view) == b"whole"
            assert lines.missed == 1000

    run(loop, main)


def test_cancelling_a_task_that_waits_loses_no_message(loop, path, publisher):
    peer = publisher()

    async def main():
        async with aio.subscribe(path) as lines:
            peer.begin(
                "[time.sleep(0.0005) or publisher.send(b'%d' % i) for i in range(400)]"
                " and publisher.close()"
            )
            taken = []
            with contextlib.suppress(ringbell.EndOfStream):
                while True:
                    with contextlib.suppress(TimeoutError):
                        taken.append(await running_loop().within(0.0004, lines.recv()))
            assert taken == [b"%d" % i for i in range(400)]

    run(loop, main)
    peer.reply()


def test_a_task_that_stops_waiting_for_a_publisher_leaves_nothing(loop, path, publisher):
    async def main():
        with pytest.raises(TimeoutError, match="nobody published"):
            await aio.subscribe(path, timeout=0.01)
        with pytest.raises(TimeoutError):
            await running_loop().within(0.01, aio.subscribe(path)._open())

    run(loop, main)
    assert not path.exists()
    publisher()


def test_a_killed_publisher_is_told_as_such(loop, path, publisher):
    peer = publisher()

    async def main():
        async with aio.subscribe(path) as lines:
            peer.run("publisher.send(b'last')")
            assert await lines.recv() == b"last"

            async def kill():
                await until(loop, lambda: lines._waiter is not None)
                peer.kill()

            lost, _ = await gather([lines.recv(), kill()])
            assert isinstance(lost, ringbell.PeerLost)

    run(loop, main)


def test_one_who_holds_the_writer_back_too_long_is_let_go(loop, path, publisher):
    peer = publisher(stall=0.01, ring_size=4096)

    async def main():
        async with aio.subscribe(path) as lines:
            peer.run("[publisher.send(bytes(100)) for i in range(100)]")
            with pytest.raises(ringbell.LetGo):
                async for _ in lines:
                    pass

    run(loop, main)


# ---- publishing ----


def test_a_full_ring_suspends_the_publisher_and_not_the_loop(loop, path, subscriber):
    async def main():
        async with aio.publish(path, ring_size=4096, min_readers=2) as lines:
            peers = [subscriber(), subscriber()]
            messages = [b"%d " % i * (i % 300) for i in range(500)]
            await lines.send(b"first")  # waits for both
            assert sorted(reader.pid for reader in lines.readers) == sorted(
                peer.pid for peer in peers
            )

            async def begin():
                await until(loop, lambda: not lines._sending.is_free)
                for peer in peers:
                    peer.reply()
                    peer.begin("[bytes(view) for view in subscriber]")

            async def send():
                for message in messages[:250]:
                    await lines.send(message)
                assert await lines.send_many(messages[250:]) == 250
                await lines.send(bytes(20_000))

            assert await gather([send(), begin()]) == [None, None]
        for peer in peers:
            assert peer.reply() == repr([b"first", *messages, bytes(20_000)])

    run(loop, main)


def test_the_first_entry_waits_for_as_many_as_were_asked_for(loop, path, subscriber):
    async def main():
        async with aio.publish(path, "i4", min_readers=2) as numbers:
            with pytest.raises(ringbell.RingFull):
                await numbers.write([1], timeout=0.01)
            with pytest.raises(TimeoutError):
                await running_loop().within(0.01, numbers.write([2]))
            peers = [subscriber(), subscriber()]
            await numbers.write([3])
            with await numbers.reserve(2) as rows:
                rows[:] = 4, 5
        for peer in peers:
            peer.reply()
            assert peer.run("sum([rows.tolist() for rows in subscriber], [])") == "[3, 4, 5]"

    run(loop, main)


def test_one_who_keeps_the_newest_never_waits(loop, path, subscriber):
    async def main():
        async with aio.publish(path, keep="newest", ring_size=4096) as lines:
            await lines.send(b"to nobody")
            peer = subscriber()
            await until(loop, lambda: lines.readers)
            peer.reply()
            for number in range(1000):
                await lines.send(b"%d" % number * 300, timeout=0)
            assert peer.run("subscriber.latest()[:3], subscriber.missed") == "(b'999', 1000)"
            assert await lines.send_many([b"a", b"b"]) == 2
            longest = lines.max_payload
            await lines.send(b"x" * longest)
            assert peer.run("len(subscriber.latest())") == str(longest)
            with pytest.raises(ValueError, match="half"):
                await lines.send(b"x" * (longest + 1))

    run(loop, main)


@pytest.mark.parametrize("keep", ["all", "newest"])
def test_large_messages_go_by_reference(loop, path, keep):
    async def main():
        blocks = ringbell.Blocks(pool=1 << 20, least=10_000, when_lent="wait")
        async with (
            aio.publish(path, keep=keep, min_readers=1, blocks=blocks, ring_size=4096) as pictures,
            aio.subscribe(path) as viewer,
        ):
            await pictures.send(b"a" * 100_000)
            held = await viewer.hold()
            await pictures.send(b"b" * 200_000)
            latest = await viewer.latest()
            assert isinstance(held, memoryview)
            assert isinstance(latest, memoryview)
            assert pictures.stats().driver.blocks.sent == 2
            assert (bytes(held), bytes(latest)) == (b"a" * 100_000, b"b" * 200_000)
            del held, latest

    run(loop, main)


def test_a_killed_subscriber_holds_nobody_back(loop, path, subscriber):
    async def main():
        async with aio.publish(path, ring_size=4096) as lines:
            peer = subscriber()
            await lines.send(b"first")

            async def kill():
                await until(loop, lambda: not lines._sending.is_free)
                peer.kill()

            results = await gather([*(lines.send(bytes(1000)) for _ in range(50)), kill()])
            assert results == [None] * 51
            await until(loop, lambda: not lines.readers)

    run(loop, main)


def test_closing_ends_the_wait_for_room_and_for_readers(loop, path, subscriber):
    async def main():
        for readers in (0, 1):
            lines = await aio.publish(path, ring_size=4096)
            if readers:
                subscriber()
                await lines.send(b"first")

            async def close(lines=lines):
                await until(loop, lambda: not lines._sending.is_free)
                lines.close()

            *results, _ = await gather([*(lines.send(bytes(1000)) for _ in range(10)), close()])
            names = {type(result).__name__ for result in results}
            assert names == {"ChannelClosed", *(["NoneType"] if readers else [])}
            assert not path.exists()

    run(loop, main)


def test_an_exception_gives_the_publication_up(loop, path, subscriber):
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with aio.publish(path) as lines:
                peer = subscriber()
                await lines.send(b"first")
                raise ZeroDivisionError
        return peer

    peer = run(loop, main)
    peer.reply()
    assert peer.run("subscriber.recv()") == "b'first'"
    with pytest.raises(Exception, match="PeerLost"):
        peer.run("subscriber.recv()")


def test_both_sides_may_live_in_tasks_of_one_loop(loop, path):
    async def main():
        async def take():
            async with aio.subscribe(path, codec="pickle", max_poll=1e-4) as objects:
                return [one async for one in objects]

        async def send():
            async with aio.publish(path, min_readers=2, codec="pickle") as objects:
                for number in range(100):
                    await objects.send({"number": number})

        one, other, _ = await gather([take(), take(), send()])
        assert one == other == [{"number": number} for number in range(100)]

    run(loop, main)


def test_bad_options_are_those_of_the_blocking_functions(loop, path):
    async def main():
        with pytest.raises(ValueError, match="keep is"):
            await aio.publish(path, keep="latest")
        with pytest.raises(ValueError, match="max_poll is"):
            await aio.subscribe(path, max_poll=1)
        async with aio.publish(path):
            wait_until_listening(path)
            with pytest.raises(OSError, match="somebody listens"):
                await aio.publish(path)
            with pytest.raises(ringbell.LayoutMismatch, match="use ringbell.subscribe"):
                await aio.consume(path)

    run(loop, main)
