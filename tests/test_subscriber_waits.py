# SPDX-License-Identifier: MIT
"""Subscribers in an event loop of one's own, and in a waiter among other ends."""

import contextlib
import itertools
import select

import pytest
from test_readiness import readable

import ringbell

# Long, and of a kind of which others run each time; `make verify` runs it.
pytestmark = pytest.mark.variant

ENTRIES = 1500  # for each shape

SENDS = """
def send(publisher, first, count, coalesces):
    import contextlib, random
    rng = random.Random(first)
    number = first
    while number < first + count:
        with publisher.coalesce(max_delay=1e-4) if coalesces else contextlib.nullcontext():
            for _ in range(min(rng.choice((1, 1, 2, 30)), first + count - number)):
                if hasattr(publisher, "send"):
                    publisher.send(b"%d" % number)
                else:
                    publisher.write([number])
                number += 1
        if rng.random() < 0.3:
            time.sleep(rng.choice((0, 1e-5, 1e-4)))  # so that the ring runs empty at any moment
"""


def borrowed(subscriber):
    with subscriber.borrow(timeout=0) as view:
        return bytes(view)


def borrowed_row(subscriber):
    with subscriber.borrow(1, timeout=0) as rows:
        return rows[0]


TAKES = {
    "messages": [
        lambda subscriber: subscriber.recv(timeout=0),
        lambda subscriber: subscriber.recv_many(1, timeout=0)[0],
        lambda subscriber: subscriber.hold(timeout=0),
        lambda subscriber: subscriber.latest(timeout=0),
        borrowed,
    ],
    "records": [
        lambda subscriber: subscriber.read(1, timeout=0)[0],
        lambda subscriber: subscriber.latest(timeout=0),
        borrowed_row,
    ],
}


@pytest.mark.parametrize("keep", ["all", "newest"])
@pytest.mark.parametrize("kind", TAKES)
def test_an_event_loop_that_takes_one_entry_at_a_time_misses_no_kick(start, path, keep, kind):
    peer = start("nothing")
    dtype = None if kind == "messages" else "i8"
    peer.run(f"publisher = ringbell.publish(path, {dtype!r}, keep={keep!r}, ring_size=4096)")
    peer.run(SENDS)
    shapes = itertools.product(
        TAKES[kind], (None, ringbell.Moderation(entries=8, delay=5e-5)), (False, True)
    )
    with ringbell.subscribe(path) as subscriber:
        numbers = taken_one_by_one(subscriber)
        first = 1
        for take, subscriber.moderation, coalesces in shapes:
            peer.begin(f"send(publisher, {first}, {ENTRIES}, {coalesces})")
            first += ENTRIES
            while numbers.send(take) < first - 1:
                pass
            peer.reply()  # after this, no kick for an entry that has been taken is to come
            # Once a call has said that there is nothing, the descriptor is no longer readable.
            with pytest.raises(ringbell.RingEmpty):
                take(subscriber)
            assert not readable(subscriber.fileno())
        peer.run("publisher.close()")
        assert readable(subscriber.fileno())
        for take in TAKES[kind]:
            with pytest.raises(ringbell.EndOfStream):
                take(subscriber)


def taken_one_by_one(subscriber):
    """Give the number of one entry each time that the descriptor is readable.

    What is sent to this generator takes it. It hangs if a kick is missed.
    """

    def numbers():
        taken = number = 0
        epoll = select.epoll()
        epoll.register(subscriber.fileno(), select.EPOLLIN)
        with contextlib.closing(epoll):
            while True:
                take = yield number
                while True:
                    epoll.poll()
                    with contextlib.suppress(ringbell.RingEmpty, ringbell.Overwritten):
                        number = int(take(subscriber))
                        break
                taken += 1
                assert taken + subscriber.missed == number

    running = numbers()
    next(running)
    return running


@pytest.mark.parametrize("how", ["adaptive", "never", "wait"])
def test_subscribers_of_both_kinds_are_waited_for_among_other_ends(start, tmp_path, how):
    names = {what: str(tmp_path / what) for what in ("lines", "numbers", "stream", "device")}
    every, newest, producer = (start("nothing") for _ in range(3))
    every.run(f"p = ringbell.publish({names['lines']!r})")
    newest.run(f"p = ringbell.publish({names['numbers']!r}, 'i8', keep='newest', ring_size=4096)")
    producer.begin(f"p = ringbell.produce({names['stream']!r})")
    count = 3000
    with (
        ringbell.subscribe(names["lines"]) as lines,
        ringbell.subscribe(names["numbers"]) as numbers,
        ringbell.consume(names["stream"]) as stream,
        ringbell.listen(names["device"]) as listener,
    ):
        producer.reply()
        members = [lines, numbers, stream, listener]
        waiter = None if how == "wait" else ringbell.Waiter(members, polling=how)
        pause = "i % 50 or time.sleep(0.001)"
        sends = f"[p.send(b'%d' % i) or {pause} for i in range(1, {count} + 1)] and p.close()"
        writes = f"[p.write([i]) or {pause} for i in range(1, {count} + 1)] and p.close()"
        for peer, code in ((every, sends), (newest, writes), (producer, sends)):
            peer.begin(code)
        last = dict.fromkeys((lines, numbers, stream), 0)
        seen = 0
        while members != [listener]:
            for member in waiter.wait() if waiter else ringbell.wait(members):
                try:
                    while True:
                        if member is numbers:
                            rows = numbers.read(timeout=0)
                            assert rows[0] > last[numbers]
                            seen += len(rows)
                            last[numbers] = int(rows[-1])
                        else:
                            number = int(member.recv(timeout=0))
                            assert number == last[member] + 1
                            last[member] = number
                except ringbell.RingEmpty:
                    pass
                except ringbell.EndOfStream:
                    members.remove(member)
                    if waiter:
                        waiter.remove(member)
        assert set(last.values()) == {count}
        assert seen + numbers.missed == count
        # What is left is as it was.
        start("nothing").begin(f"driver = ringbell.connect({names['device']!r})")
        assert (waiter.wait() if waiter else ringbell.wait(members)) == [listener]
        listener.accept().close()
        if waiter:
            waiter.close()
    for peer in (every, newest, producer):
        peer.reply()


@pytest.mark.parametrize("keep", ["all", "newest"])
def test_a_subscriber_whose_publisher_was_killed_or_that_was_let_go_is_ready(start, path, keep):
    peer = start("nothing")
    stall = {"stall": 0.01} if keep == "all" else {}
    peer.run(f"p = ringbell.publish(path, keep={keep!r}, ring_size=4096, **{stall!r})")
    with ringbell.subscribe(path) as subscriber, ringbell.Waiter([subscriber]) as waiter:
        assert waiter.wait(0) == []
        if keep == "all":
            peer.run("[p.send(bytes(100)) for i in range(100)]")
            assert waiter.wait() == [subscriber]
            with pytest.raises(ringbell.LetGo):
                while True:
                    subscriber.recv(timeout=0)
        peer.kill()
        assert waiter.wait() == [subscriber]
        with pytest.raises(ringbell.LetGo if keep == "all" else ringbell.PeerLost):
            subscriber.recv(timeout=0)
        assert readable(subscriber.fileno())


def test_a_publisher_has_nothing_to_take(path):
    nothing = pytest.raises(TypeError, match="a producer has nothing to take")
    with ringbell.publish(path) as publisher, nothing:
        ringbell.wait([publisher])
