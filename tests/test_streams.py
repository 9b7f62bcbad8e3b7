# SPDX-License-Identifier: MIT
"""One-way streams: how the two sides meet, what they carry, how they end."""

import errno
import hashlib
import os
import random
import re
import signal
import threading
from contextlib import suppress

import numpy as np
import pytest
from processes import PeerError, wait_until, wait_until_blocked, wait_until_listening

import ringbell
from ringbell.meeting import handshake

SMALL_RING = 4096
SMALL_RING_MESSAGES = 64
KINDS = {"messages": {}, "records": {"dtype": "i4"}}

PUT = {"messages": "producer.send(b'%d')", "records": "producer.write(%d)"}
TAKE = {"messages": lambda c: int(c.recv(timeout=0)), "records": lambda c: int(c.read(1, 0)[0])}


def put(producer, kind, number):
    eval(PUT[kind] % number, {"producer": producer})


def peer_options(kind, **options):
    return {**options, **{name: repr(value) for name, value in KINDS[kind].items()}}


def take_all(consumer, kind):
    taken = []
    with pytest.raises(ringbell.RingEmpty):
        while True:
            taken.append(TAKE[kind](consumer))
    return taken


# ---- meeting ----


def test_a_producer_that_starts_first_waits_for_its_consumer(start, consume, path):
    producer = start("producer")
    wait_until_listening(path)
    consumer = consume()
    assert not list(path.parent.iterdir()), "the name is free again"
    assert consumer.peer_pid == producer.pid
    producer.run("producer.send(b'hello')")
    assert consumer.recv() == b"hello"


def test_a_consumer_that_starts_first_waits_for_its_producer(start, produce, path):
    consumer = start("consumer")
    wait_until_listening(path)
    producer = produce()
    assert not list(path.parent.iterdir()), "the name is free again"
    assert producer.peer_pid == consumer.pid
    producer.send(b"hello")
    assert consumer.run("consumer.recv()") == "b'hello'"


def test_sides_that_start_at_once_always_meet(start):
    producer, consumer = start("nothing"), start("nothing")
    producer.begin("""
for i in range(200):
    with ringbell.produce(path, ring_size=4096) as stream:
        stream.send(b"%d" % i)
""")
    consumer.run("""
got = []
for i in range(200):
    with ringbell.consume(path) as stream:
        got += [bytes(message) for message in stream]
""")
    producer.reply()
    assert consumer.run("got == [b'%d' % i for i in range(200)]") == "True"


def test_the_next_two_may_meet_while_a_stream_goes_on(stream):
    streams = [stream(), stream("f8"), stream()]
    for producer, consumer in streams[::2]:
        producer.send(b"x")
        assert consumer.recv(timeout=0) == b"x"


@pytest.mark.parametrize("timeout", [0, 0.01])
@pytest.mark.parametrize("side", [ringbell.produce, ringbell.consume])
def test_nobody_on_the_other_side_is_a_timeout(path, side, timeout):
    done = "consumed" if side is ringbell.produce else "produced"
    with pytest.raises(TimeoutError, match=f"nobody {done} .* within the timeout"):
        side(path, timeout=timeout)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_consumer_that_gives_up_on_a_slow_producer_leaves_the_stream_whole(
    start, consume, path, timeout
):
    producer = start("producer")
    wait_until_listening(path)
    producer.stop()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="nobody produced"):
            ringbell.consume(path, timeout=timeout)
    producer.signal(signal.SIGCONT)
    consumer = consume()
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0)
    producer.run("producer.send(b'after all')")
    assert consumer.recv() == b"after all"


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_producer_that_gives_up_on_a_slow_consumer_leaves_it_waiting(
    start, produce, path, timeout
):
    consumer = start("consumer")
    wait_until_listening(path)
    consumer.stop()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="nobody consumed"):
            ringbell.produce(path, timeout=timeout)
    consumer.signal(signal.SIGCONT)
    produce().send(b"after all")
    assert consumer.run("consumer.recv()") == "b'after all'"


def test_a_consumer_that_dies_while_it_meets_is_passed_over(start, consume, path):
    producer = start("producer")
    wait_until_listening(path)
    producer.stop()
    dying = [start("consumer") for _ in range(3)]
    for peer in dying:
        wait_until(lambda peer=peer: peer.state() == "S")
        peer.kill()
    producer.signal(signal.SIGCONT)
    consumer = consume()
    producer.run("producer.send(b'to the living')")
    assert consumer.recv() == b"to the living"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_a_name_where_another_one_waits_is_in_use(start, produce, consume, path, side, kind):
    first = start(side, **peer_options(kind))
    wait_until_listening(path)
    meet = ringbell.produce if side == "producer" else ringbell.consume
    for _ in range(2):
        with pytest.raises(OSError, match=f"another {side} waits for the") as caught:
            meet(path, **KINDS[kind])
        assert caught.value.errno == errno.EADDRINUSE
    other = consume() if side == "producer" else produce(**KINDS[kind])
    assert other.peer_pid == first.pid
    assert first.run(f"{side}.peer_pid") == str(os.getpid())


@pytest.mark.parametrize(
    ("side", "why"),
    [
        ("producer", "a producer waits for its consumer under this name.*use ringbell.consume"),
        ("consumer", "a consumer waits for its producer under this name.*use ringbell.produce"),
    ],
)
def test_a_driver_is_told_that_a_stream_is_met_under_the_name(
    start, produce, consume, path, side, why
):
    waiting = start(side)
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match=f"^{why}"):
        ringbell.connect(path)
    assert (consume() if side == "producer" else produce()).peer_pid == waiting.pid


@pytest.mark.parametrize("side", [ringbell.produce, ringbell.consume])
def test_a_stream_and_a_device_under_one_name_tell_each_other(start, connect, path, side):
    device = start("nothing")
    device.run(WITH_A_LOG)
    device.run("listener = ringbell.listen(path)")
    device.begin("device = listener.accept()")
    why = "a device serves requests under this name, and a (producer|consumer) cannot meet a device"
    with pytest.raises(ringbell.LayoutMismatch, match=f"^{why}; use ringbell.connect, or another"):
        side(path)
    connect()
    device.reply()
    assert re.search(why, device.run("log.getvalue()"))


WITH_A_LOG = """
import io, logging
log = io.StringIO()
logging.basicConfig(stream=log, level=logging.INFO)
"""


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 200])
def test_a_name_that_cannot_be_one_is_a_value_error(name):
    for use in (ringbell.produce, ringbell.consume):
        with pytest.raises(ValueError, match="cannot be the name|too long for a Unix socket"):
            use(name)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("polling", "sometimes"),
        ("max_poll", -1),
        ("max_poll", 0.06),
        ("cpu", 100_000),
        ("timeout", float("nan")),
    ],
)
def test_bad_options_are_value_errors(path, option, value):
    for use in (ringbell.produce, ringbell.consume):
        with pytest.raises(ValueError, match=rf"{option}|CPU"):
            use(path, **{option: value})


@pytest.mark.parametrize("dtype", [None, "i4"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("kick", "never"), ("ring_size", 1000), ("ring_size", 2**31)],
)
def test_a_producers_bad_options_are_value_errors(path, option, value, dtype):
    with pytest.raises(ValueError, match=option):
        ringbell.produce(path, dtype, **{option: value})


def test_moderation_is_no_number(path):
    with pytest.raises(TypeError, match=r"ringbell\.Moderation or None"):
        ringbell.consume(path, moderation=50e-6)


def test_plain_names_live_in_the_runtime_folder(monkeypatch, path, start):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    producer = start("nothing")
    producer.begin("stream = ringbell.produce('ticks')")
    wait_until_listening(path.parent / "ringbell" / "ticks.sock")
    assert (path.parent / "ringbell").stat().st_mode & 0o777 == 0o700
    ringbell.consume("ticks").close()
    producer.reply()


# ---- what is carried ----

PRODUCE_AT_RANDOM = """
import random
import re
rng = random.Random({seed})
SIZES = (0, 1, 48, 49, 64, 500, 4080, 4081, 9000)
left = [rng.randbytes(rng.choice(SIZES)) for _ in range(1500)]
while left:
    way = rng.randrange(4)
    if way == 0:
        producer.send(left.pop(0))
    elif way == 1:
        count = rng.choice((1, 2, 10, 50))
        assert producer.send_many(left[:count]) == len(left[:count])
        del left[:count]
    elif way == 2:
        with producer.coalesce(max_entries=3):
            for _ in range(min(5, len(left))):
                producer.send(left.pop(0))
    elif len(left[0]) <= producer.max_payload:
        with producer.reserve(producer.max_payload) as frame:
            frame.length = len(left[0])
            frame.payload[: frame.length] = left.pop(0)
producer.close()
"""


@pytest.mark.parametrize("boundary", [2**16, 2**32, 2**64])
def test_messages_arrive_whole_and_in_order_whatever_they_go_through(start, consume, boundary):
    producer = start("producer", ring_size=SMALL_RING, indices_from=boundary - 20)
    producer.begin(PRODUCE_AT_RANDOM.format(seed=boundary))
    consumer = consume()
    rng = random.Random(boundary)
    expected = [
        rng.randbytes(rng.choice((0, 1, 48, 49, 64, 500, 4080, 4081, 9000))) for _ in range(1500)
    ]
    messages = []
    rng = random.Random(1)
    with pytest.raises(ringbell.EndOfStream):
        while True:
            way = rng.randrange(4)
            if way == 0:
                messages.append(consumer.recv())
            elif way == 1:
                messages.extend(consumer.recv_many(rng.choice((None, 1, 5))))
            elif way == 2:
                messages.append(bytes(consumer.borrow()))
            else:
                taken = [bytes(message) for _, message in zip(range(5), consumer, strict=False)]
                messages.extend(taken)
                if len(taken) < 5:
                    consumer.recv()
    producer.reply()
    digests = [hashlib.sha256(b"".join(some)).hexdigest() for some in (messages, expected)]
    assert len(messages) == len(expected)
    assert digests[0] == digests[1]
    stats = consumer.stats()
    assert stats.dwi == stats.dri
    assert (stats.dwi - boundary + 20) % 2**64 > 20, "the test has to cross the boundary"


def test_tokens_are_not_needed_and_any_buffer_is_a_payload(stream):
    producer, consumer = stream()
    for payload in (bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", "u1")):
        producer.send(payload)
        assert consumer.borrow(timeout=0) == b"abc"


# ---- borrowing messages ----


def test_a_borrowed_view_is_read_only_and_ends_with_the_next_step(stream):
    producer, consumer = stream()
    for step in (consumer.recv, consumer.recv_many, consumer.borrow, lambda: next(iter(consumer))):
        producer.send_many([b"lent", b"next"])
        view = consumer.borrow()
        assert view == b"lent"
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 0
        assert step() in (b"next", [b"next"])
        with pytest.raises(ValueError, match="released"):
            bytes(view)
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)


def test_a_borrowed_message_keeps_its_slots_until_the_next_step(stream):
    producer, consumer = stream(ring_size=SMALL_RING)
    producer.send_many([b"x"] * SMALL_RING_MESSAGES)
    view = consumer.borrow()
    with pytest.raises(ringbell.RingFull):
        producer.send(b"y", timeout=0)
    assert view == b"x"
    assert consumer.stats().device.consumer.entries == 0
    consumer.borrow()
    producer.send(b"y", timeout=0)
    with pytest.raises(ringbell.RingFull):
        producer.send(b"y", timeout=0)


@pytest.mark.parametrize("keep", [lambda view: view[1:3], lambda view: np.frombuffer(view, "u1")])
def test_a_view_that_is_still_in_use_cannot_be_released_and_nothing_is_lost(stream, keep):
    producer, consumer = stream()
    producer.send_many([b"first", b"second", b"third"])
    kept = keep(consumer.borrow())
    for step in (consumer.borrow, consumer.recv, consumer.recv_many, lambda: next(iter(consumer))):
        with pytest.raises(BufferError, match="the message that was borrowed is still in use"):
            step()
    assert bytes(kept) in (b"ir", b"first")
    assert consumer.stats().device.consumer.entries == 0
    del kept
    assert consumer.borrow() == b"second"
    assert consumer.recv() == b"third"


def test_messages_larger_than_the_ring_are_borrowed_whole(start, consume):
    producer = start("producer", ring_size=SMALL_RING)
    producer.begin("""
for i in range(6):
    producer.send(bytes([i]) * 20_000 if i % 2 == 0 else b"small")
""")
    consumer = consume()
    view = consumer.borrow()
    assert view == bytes([0]) * 20_000
    kept = np.frombuffer(view, "u1")
    assert not kept.flags.writeable
    assert consumer.borrow() == b"small"
    assert kept.tobytes() == bytes([0]) * 20_000, "it was never in the ring"
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert consumer.recv() == bytes([2]) * 20_000
    assert [bytes(view) for _, view in zip(range(3), consumer, strict=False)] == [
        b"small",
        bytes([4]) * 20_000,
        b"small",
    ]
    producer.reply()


def test_a_borrowed_view_outlives_the_channel(stream):
    producer, consumer = stream()
    producer.send(b"kept")
    view = consumer.borrow()
    consumer.close()
    producer.close()
    assert view == b"kept"
    with pytest.raises(ringbell.ChannelClosed):
        consumer.borrow()
    producer, consumer = stream()
    producer.send(b"kept")
    view = consumer.borrow()
    producer.close()
    consumer.close()
    del producer, consumer
    assert view == b"kept"


def test_a_device_borrows_messages_beside_requests_that_it_holds(pair):
    driver, device = pair(ring_size=SMALL_RING)
    driver.submit(b"request")
    driver.doorbell.send(b"message")
    driver.submit(b"another")
    request = device.take()
    view = device.doorbell.borrow()
    assert (request.payload, view) == (b"request", b"message")
    request.complete(b"answer")
    assert driver.reap().payload == b"answer"
    assert view == b"message"
    another = device.take()
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    assert another.payload == b"another"
    another.complete()


def test_a_device_that_only_takes_after_a_borrow_does_not_hold_up_the_ring(pair):
    driver, device = pair(ring_size=SMALL_RING)
    driver.doorbell.send(b"message")
    assert device.doorbell.borrow() == b"message"
    for _ in range(3 * SMALL_RING_MESSAGES):
        driver.submit(b"x", timeout=0)
        device.take(timeout=0).complete(timeout=0)
        driver.reap(timeout=0)


def test_a_device_takes_nothing_while_what_it_borrowed_is_in_use(pair):
    driver, device = pair()
    driver.doorbell.send(b"message")
    part = device.doorbell.borrow()[1:]
    driver.submit(b"request")
    with pytest.raises(BufferError):
        device.take()
    del part
    assert device.take().payload == b"request"


def test_a_driver_that_calls_after_a_borrow_does_not_hold_up_the_ring(pair):
    driver, device = pair(ring_size=SMALL_RING)
    device.interrupt.send(b"message")
    assert driver.interrupt.borrow() == b"message"
    for timeout in (None, 0):
        device.interrupt.send(b"message")
        assert driver.interrupt.borrow() == b"message"
        for _ in range(SMALL_RING_MESSAGES):
            driver.submit(b"x", timeout=0)
            device.take(timeout=0).complete(timeout=0)
            driver.reap(timeout=timeout)


# ---- how a stream ends ----


def test_a_consumer_takes_all_that_was_sent_before_it_is_told_of_the_end(stream):
    messages = [b"%d" % i for i in range(10)]
    for take in (
        lambda c: c.recv(),
        lambda c: c.recv_many(1)[0],
        lambda c: bytes(c.borrow()),
        lambda c: bytes(next(iter(c))),
    ):
        producer, consumer = stream()
        producer.send_many(messages)
        producer.close()
        assert [take(consumer) for _ in messages] == messages
        assert list(consumer) == []
        for again in (consumer.recv, consumer.recv_many, consumer.borrow):
            with pytest.raises(ringbell.EndOfStream):
                again()


def test_a_consumer_of_records_takes_all_before_it_is_told_of_the_end(stream):
    rows = np.arange(10, dtype="i4")
    for take in (lambda c: c.borrow(1)[0], lambda c: c.read(1)[0]):
        producer, consumer = stream("i4")
        producer.write(rows)
        producer.close()
        assert [take(consumer) for _ in rows] == rows.tolist()
        assert list(consumer) == []
        for again in (consumer.borrow, consumer.read):
            with pytest.raises(ringbell.EndOfStream):
                again()
    producer, consumer = stream("i4")
    producer.write(rows)
    producer.close()
    assert np.concatenate([some.copy() for some in consumer]).tolist() == rows.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_producer_sent_is_taken_first(start, consume, kind):
    producer = start("producer", **peer_options(kind))
    consumer = consume()
    for i in range(10):
        producer.run(PUT[kind] % i)
    producer.kill()
    assert [TAKE[kind](consumer) for _ in range(10)] == list(range(10))
    for take in (lambda: next(iter(consumer)), consumer.borrow):
        with pytest.raises(ringbell.PeerLost, match=f"process {producer.pid}"):
            take()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, ringbell.RingFull])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_that_leaves_the_block_gives_the_stream_up(stream, kind, error):
    producer, consumer = stream(**KINDS[kind])
    with pytest.raises(error), producer:
        for i in range(3):
            put(producer, kind, i)
        raise error
    assert [TAKE[kind](consumer) for _ in range(3)] == [0, 1, 2]
    for take in (consumer.borrow, lambda: list(consumer)):
        with pytest.raises(ringbell.PeerLost, match="or gave it up"):
            take()
    with pytest.raises(ringbell.ChannelClosed):
        put(producer, kind, 3)


def test_a_block_that_ends_by_itself_closes_the_stream(stream):
    producer, consumer = stream()
    with producer:
        producer.send(b"x")
    assert [bytes(message) for message in consumer] == [b"x"]


def test_an_exception_in_the_consumers_block_is_no_loss_to_the_producer(stream):
    producer, consumer = stream()
    with pytest.raises(ZeroDivisionError), consumer:
        raise ZeroDivisionError
    with pytest.raises(ringbell.EndOfStream):
        producer.send(b"x")


FOR_ROOM = {
    "send": ("messages", "[producer.send(b'x' * 100) for _ in range(100)]"),
    "send in pieces": ("messages", "producer.send(b'x' * 100_000)"),
    "send_many": ("messages", "producer.send_many([b'x'] * 100)"),
    "reserve": ("messages", "[producer.send(b'x') for _ in range(64)], producer.reserve(1)"),
    "write": ("records", "producer.write(range(5000))"),
    "reserve records": ("records", "producer.write(range(1024)), producer.reserve(1)"),
}


@pytest.mark.parametrize(("ending", "error"), [("close", "EndOfStream"), ("kill", "PeerLost")])
@pytest.mark.parametrize("wait", FOR_ROOM)
def test_a_producer_that_waits_for_room_is_told_when_its_consumer_goes(
    start, produce, wait, ending, error
):
    kind, code = FOR_ROOM[wait]
    consumer = start("consumer")
    producer = produce(ring_size=SMALL_RING, **KINDS[kind])

    def end_when_it_waits():
        wait_until_blocked(producer, "driver", "adaptive")
        consumer.run("consumer.close()") if ending == "close" else consumer.kill()

    thread = threading.Thread(target=end_when_it_waits)
    thread.start()
    try:
        with pytest.raises(getattr(ringbell, error), match=f"process {consumer.pid}"):
            eval(code, {"producer": producer})
    finally:
        thread.join()
    with pytest.raises(getattr(ringbell, error)):
        producer.reserve(1)
    with pytest.raises(getattr(ringbell, error)):
        put(producer, kind, 1)


FOR_DATA = [
    ("messages", lambda c: c.recv()),
    ("messages", lambda c: c.recv_many()),
    ("messages", lambda c: c.borrow()),
    ("records", lambda c: c.read()),
    ("records", lambda c: c.borrow()),
]


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("producer.close()", ringbell.EndOfStream),
        ("producer.__exit__(ValueError, ValueError(), None)", ringbell.PeerLost),
    ],
)
def test_a_consumer_that_waits_for_data_is_told_how_its_producer_ended(start, path, ending, error):
    peer = start("nothing")
    for polling in ("adaptive", "always"):
        for kind, take in FOR_DATA:
            peer.begin(f"producer = ringbell.produce(path, **{KINDS[kind]!r})")
            with ringbell.consume(path, polling=polling) as consumer:
                peer.reply()

                def end_when_it_waits(consumer=consumer, polling=polling):
                    wait_until_blocked(consumer, "device", polling)
                    peer.run(ending)

                thread = threading.Thread(target=end_when_it_waits)
                thread.start()
                with pytest.raises(error):
                    take(consumer)
                thread.join()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_works_after_close(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    put(producer, kind, 1)
    for side in (producer, consumer):
        side.close()
        side.close()
        assert repr(side).endswith(", closed>")
    uses = [consumer.borrow, consumer.fileno, lambda: next(iter(consumer))]
    uses += [lambda: put(producer, kind, 1), lambda: producer.reserve(1)]
    uses += [lambda: producer.coalesce().__enter__()]
    if kind == "messages":
        uses += [consumer.recv, consumer.recv_many, lambda: producer.send_many([b"x"])]
    else:
        uses += [consumer.read, consumer.read]
    for use in uses:
        with pytest.raises(
            ringbell.ChannelClosed, match="this side has closed the channel; open a new channel"
        ):
            use()
    assert producer.stats().driver.producer.entries == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_producer_may_close_while_it_coalesces_or_reserves(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    with producer.coalesce():
        put(producer, kind, 1)
        with pytest.raises(ringbell.ChannelClosed), producer.reserve(1):
            producer.close()
    assert TAKE[kind](consumer) == 1
    with pytest.raises(ringbell.EndOfStream):
        consumer.borrow()


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_has_no_say_in_its_parents_stream(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (lambda: put(producer, kind, 1), consumer.borrow):
            try:
                use()
            except ringbell.ChannelClosed as error:
                refused += "forked from" in str(error)
        producer.__exit__(ValueError, ValueError(), None)
        consumer.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    put(producer, kind, 5)
    assert TAKE[kind](consumer) == 5
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_is_forgotten_warns_and_is_lost_to_the_other_side(stream, kind):
    producer, consumer = stream(**KINDS[kind])
    with pytest.warns(ResourceWarning, match="a ringbell channel was not closed"):
        producer._channel.__del__()
    with pytest.raises(ringbell.PeerLost):
        consumer.borrow()


# ---- threads and signals ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_thread_in_the_same_end_gets_an_error(start, path, kind):
    peer = start("nothing")
    peer.run("import threading")
    # Whoever waits is told so; the other side waits for nothing.
    peer.begin(f"producer = ringbell.produce(path, ring_size=4096, **{KINDS[kind]!r})")
    with ringbell.consume(path) as consumer:
        peer.reply()
        fill = "[producer.send(b'x') for _ in range(65)]"
        if kind == "records":
            fill = "producer.write(range(1025))"
        peer.run(f"thread = threading.Thread(target=lambda: {fill}); thread.start()")
        wait_until(lambda: consumer.stats().driver.producer.sleeps >= 1)
        for use in (PUT[kind] % 1, "producer.reserve(1)"):
            with pytest.raises(PeerError, match="RuntimeError: .*one thread at a time"):
                peer.run(use)
        consumer.borrow()
        consumer.borrow()
        peer.run("thread.join()")
        peer.run("producer.close()")
    peer.begin("consumer = ringbell.consume(path)")
    with ringbell.produce(path, **KINDS[kind]) as producer:
        peer.reply()
        peer.run("thread = threading.Thread(target=lambda: consumer.borrow()); thread.start()")
        wait_until(lambda: producer.stats().device.consumer.sleeps >= 1)
        other = "consumer.recv()" if kind == "messages" else "consumer.read()"
        for use in ("consumer.borrow()", "next(iter(consumer))", other):
            with pytest.raises(PeerError, match="RuntimeError: .*one thread at a time"):
                peer.run(use)
        put(producer, kind, 1)
        peer.run("thread.join()")


@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_ctrl_c_ends_meeting(start, produce, consume, path, side):
    peer = start("nothing")
    meet = {"producer": "produce", "consumer": "consume"}[side]
    for _ in range(3):
        peer.begin(f"{side} = ringbell.{meet}(path)")
        wait_until_listening(path)
        wait_until(lambda: peer.state() == "S")
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()
        assert not list(path.parent.iterdir())
    peer.begin(f"{side} = ringbell.{meet}(path)")
    assert (consume() if side == "producer" else produce()).peer_pid == peer.pid
    peer.reply()


INTERRUPTED_FOR_ROOM = {
    "messages": [
        "while True: producer.send(b'%d' % sent); sent += 1",
        "while True: sent += producer.send_many([b'%d' % i for i in range(sent, sent + 5)])",
        "producer.send(b'%d' % sent * 5000)",
        "while True:\n with producer.reserve(4) as frame: frame.payload[:] = b'%4d' % sent\n"
        " sent += 1",
    ],
    "records": [
        "while True: producer.write(sent); sent += 1",
        "while True:\n with producer.reserve(8) as rows: rows[:] = range(sent, sent + 8)\n"
        " sent += 8",
    ],
}


@pytest.mark.parametrize("polling", ["adaptive", "always"])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_ends_a_wait_for_room_and_loses_nothing(start, path, kind, polling):
    peer = start("nothing")
    for code in INTERRUPTED_FOR_ROOM[kind]:
        peer.begin(
            f"sent = 0; producer = ringbell.produce(path, ring_size=4096, polling={polling!r}, "
            f"**{KINDS[kind]!r})"
        )
        with ringbell.consume(path) as consumer:
            peer.reply()
            peer.begin(code)
            wait_until_blocked(consumer, "driver", polling)
            peer.signal(signal.SIGINT)
            with pytest.raises(PeerError, match="KeyboardInterrupt"):
                peer.reply()
            sent = int(peer.run("sent"))
            # What send_many or write sent before it was interrupted has arrived as well.
            taken = take_all(consumer, kind)
            assert taken == list(range(len(taken)))
            assert sent <= len(taken) <= sent + 5
            peer.run(PUT[kind] % 1000)
            assert TAKE[kind](consumer) == 1000
            peer.run("producer.close()")


INTERRUPTED_FOR_DATA = {
    "messages": [
        "int(consumer.recv())",
        "int(consumer.recv_many()[0])",
        "int(bytes(consumer.borrow()))",
        "int(bytes(next(iter(consumer))))",
    ],
    "records": [
        "int(consumer.read()[0])",
        "int(consumer.borrow()[0])",
        "int(next(iter(consumer))[0])",
    ],
}


@pytest.mark.parametrize("polling", ["adaptive", "always"])
@pytest.mark.parametrize("kind", KINDS)
def test_ctrl_c_ends_a_wait_for_data_and_loses_nothing(start, produce, kind, polling):
    peer = start("consumer", polling=polling)
    producer = produce(**KINDS[kind])
    for number, code in enumerate(INTERRUPTED_FOR_DATA[kind]):
        before = producer.stats().device.consumer
        peer.begin(code)
        wait_until(lambda b=before: waits_again(producer, b, polling))
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()
        put(producer, kind, number)
        assert peer.run(code) == str(number)


def waits_again(producer, before, polling):
    now = producer.stats().device.consumer
    if polling == "always":
        return now.times_empty > before.times_empty
    return now.sleeps > before.sleeps


# ---- a consumer that dies unseen ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_died_asleep_is_missed_by_the_next_call_but_one(start, produce, path, kind):
    consumer = start("consumer", wait=False, polling="never")
    producer = produce(**KINDS[kind])
    assert consumer.reply() == "ready"
    consumer.begin("consumer.borrow()")
    wait_until(lambda: producer.stats().device.consumer.sleeps == 1)
    consumer.kill()
    put(producer, kind, 1)  # wakes nobody
    with pytest.raises(ringbell.PeerLost):
        put(producer, kind, 2)


LEAVE = {
    "closes": ("consumer.close()", ringbell.EndOfStream),
    "raises": ("with consumer: 1 / 0", ringbell.EndOfStream),
    "dies": (None, ringbell.PeerLost),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", LEAVE)
def test_a_producer_is_told_at_its_end_of_what_its_consumer_has_not_taken(
    start, produce, kind, way
):
    consumer = start("consumer", wait=False)
    producer = produce(**KINDS[kind])
    assert consumer.reply() == "ready"
    consumer.run("consumer.stats()")  # it has met us
    for i in range(2):
        put(producer, kind, i)
    consumer.run("taken = consumer.borrow(1)" if kind == "records" else "consumer.recv()")
    code, error = LEAVE[way]
    if code is None:
        consumer.kill()
    else:
        with suppress(PeerError):
            consumer.run(code)
    with pytest.raises(error, match=f"process {consumer.pid}"):
        if kind == "messages":
            producer.close()
        else:
            with producer:
                pass
    producer.close()
    with pytest.raises(ringbell.ChannelClosed):
        put(producer, kind, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lent_counts_as_taken_by_a_consumer_that_closes_and_by_no_other(
    start, produce, path, kind
):
    for way, (code, error) in LEAVE.items():
        consumer = start("consumer", wait=False)
        with suppress(error), ringbell.produce(path, **KINDS[kind]) as producer:
            assert consumer.reply() == "ready"
            put(producer, kind, 1)
            consumer.run("lent = consumer.borrow()")
            if code is None:
                consumer.kill()
            else:
                with suppress(PeerError):
                    consumer.run(code)
            if way == "closes":
                producer.check_consumer()
                producer.close()
            else:
                with pytest.raises(error):
                    producer.check_consumer()


def test_a_consumer_that_died_with_all_in_hand_is_no_error_of_the_close(start, produce):
    consumer = start("consumer", wait=False)
    producer = produce()
    assert consumer.reply() == "ready"
    producer.send(b"x")
    consumer.run("consumer.recv()")
    consumer.kill()
    producer.close()


def test_a_producer_that_ends_while_it_meets_its_consumer_has_ended_no_stream(path, monkeypatch):
    def interrupted(*arguments):
        receive_welcome(*arguments)
        raise KeyboardInterrupt

    receive_welcome = handshake.receive_welcome
    monkeypatch.setattr(handshake, "receive_welcome", interrupted)
    consumed = []
    thread = threading.Thread(target=lambda: consumed.append(ringbell.consume(path)))
    thread.start()
    wait_until_listening(path)
    with pytest.raises(KeyboardInterrupt):
        ringbell.produce(path)
    thread.join()
    with consumed[0] as consumer, pytest.raises(ringbell.PeerLost):
        consumer.recv()
