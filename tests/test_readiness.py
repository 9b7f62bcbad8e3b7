# SPDX-License-Identifier: MIT
"""The descriptor for event loops is readable exactly while there is something to take."""

import contextlib
import itertools
import select
import subprocess
import sys
import threading

import pytest

import ringbell

ENTRIES = 2000  # for each shape


def readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


# ---- what arrives in a ring ----

SENDS = """
def send(producer, first, count, size, coalesces):
    import contextlib, random
    rng = random.Random(first)
    number = first
    while number < first + count:
        with producer.coalesce(max_delay=1e-4) if coalesces else contextlib.nullcontext():
            for _ in range(min(rng.choice((1, 1, 2, 30)), first + count - number)):
                producer.send(number.to_bytes(4, "little").ljust(size))
                number += 1
        if rng.random() < 0.3:
            time.sleep(rng.choice((0, 1e-5, 1e-4)))  # so that the ring runs empty at any moment
"""

TAKES = {
    "recv": lambda consumer: consumer.recv(timeout=0),
    "recv_many": lambda consumer: consumer.recv_many(1, timeout=0)[0],
    "borrow": lambda consumer: consumer.borrow(timeout=0),
    "hold": lambda consumer: consumer.hold(timeout=0),
}
SHAPES = list(
    itertools.product(
        TAKES.values(),
        (40, 1500),  # bytes; two of the long ones fill the ring
        (None, ringbell.Moderation(entries=8, delay=5e-5)),
        (False, True),  # whether the sender coalesces
    )
)


def take_by_event_loop(consumer, take, first, peer):
    """Take one entry each time that the descriptor is readable; it hangs if one is missed."""
    epoll = select.epoll()
    epoll.register(consumer.fileno(), select.EPOLLIN)
    with contextlib.closing(epoll):
        expected = first
        while expected < first + ENTRIES:
            epoll.poll()
            with contextlib.suppress(ringbell.RingEmpty):
                taken = take(consumer)
                assert int.from_bytes(taken[:4], "little") == expected
                expected += 1
        peer.reply()  # after this, no kick for an entry that has been taken is to come
        # Once a call has said that there is nothing, the descriptor is no longer readable.
        with pytest.raises(ringbell.RingEmpty):
            take(consumer)
        assert not readable(consumer.fileno())


@pytest.mark.parametrize("side", ["driver", "device"])
def test_an_event_loop_that_takes_one_entry_at_a_time_misses_none(start, path, side):
    if side == "driver":
        peer = start("device")
        mine = ringbell.connect(path, ring_size=4096)
        consumer, theirs = mine.interrupt, "device.interrupt"
    else:
        with ringbell.listen(path) as listener:
            peer = start("driver", wait=False, ring_size=4096)
            mine = listener.accept()
        peer.reply()
        consumer, theirs = mine.doorbell, "driver.doorbell"
    with mine:
        peer.run(SENDS)
        for shape, (take, size, moderation, coalesces) in enumerate(SHAPES):
            consumer.moderation = moderation
            first = shape * ENTRIES
            peer.begin(f"send({theirs}, {first}, {ENTRIES}, {size}, {coalesces})")
            take_by_event_loop(consumer, take, first, peer)


WITHOUT_EPOLL = """
import select, sys
del select.epoll  # as gevent does
import ringbell
with ringbell.consume(sys.argv[1]) as consumer:
    poll = select.poll()
    poll.register(consumer.fileno(), select.POLLIN)
    assert poll.poll()
    print(consumer.recv(timeout=0))
"""


def test_a_descriptor_to_sleep_on_needs_no_epoll_of_python(path):
    consumer = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_EPOLL, str(path)], stdout=subprocess.PIPE, text=True
    )
    with ringbell.produce(path) as producer:
        producer.send(b"taken")
        assert consumer.communicate()[0] == "b'taken'\n"
    assert consumer.returncode == 0


# ---- completions that a call has put aside for another ----


def answer_all(device):
    with contextlib.suppress(ringbell.RingEmpty):
        while True:
            device.take(timeout=0).complete(b"answer")


def call_that_times_out(driver, device):
    with pytest.raises(ringbell.RingEmpty):
        driver.call(b"b", timeout=0.01)


def map_that_times_out(driver, device):
    with pytest.raises(ringbell.RingEmpty):
        next(driver.map([b"b"], timeout=0.01))


def submit_into_a_full_ring(driver, device):
    with pytest.raises(ringbell.RingFull):
        while True:
            driver.submit(b"x" * 1000, timeout=0)


def reserve_in_a_full_ring(driver, device):
    with pytest.raises(ringbell.RingFull):
        driver.reserve(driver.max_payload, timeout=0)


def submit_in_pieces(driver, device):
    with pytest.raises(ringbell.RingFull):
        driver.submit(b"x" * 100_000, timeout=0)


@pytest.mark.parametrize("before", [True, False], ids=["fileno before", "fileno after"])
@pytest.mark.parametrize(
    "call",
    [
        call_that_times_out,
        map_that_times_out,
        submit_into_a_full_ring,
        reserve_in_a_full_ring,
        submit_in_pieces,
    ],
    ids=lambda call: call.__name__,
)
def test_an_event_loop_is_told_of_a_completion_that_another_call_put_aside(pair, call, before):
    driver, device = pair(ring_size=4096)
    if before:
        descriptor = driver.interrupt.fileno()
    tokens = {driver.submit(b"a") for _ in range(3)}
    requests = [device.take() for _ in tokens]
    held = driver.submit(b"held: the doorbell ring is never quite empty")
    for request in requests:
        request.complete(b"answer")
    call(driver, device)
    descriptor = driver.interrupt.fileno()
    for _ in range(len(tokens)):
        assert readable(descriptor)
        tokens.discard(driver.reap(timeout=0).token)
    assert not tokens
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not readable(descriptor)
    # The next completion makes it readable again.
    answer_all(device)
    assert readable(descriptor)
    assert driver.reap(timeout=0).token == held


def test_what_nobody_asked_for_does_not_keep_the_descriptor_readable(pair):
    driver, device = pair(ring_size=4096)
    descriptor = driver.interrupt.fileno()
    for _ in range(3):
        device.interrupt.send(b"unasked")
    with pytest.raises(ringbell.RingEmpty):
        driver.call(b"late", timeout=0)
    answer_all(device)
    assert readable(descriptor)
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not readable(descriptor)


def test_a_map_that_is_dropped_with_an_answer_in_hand_leaves_nothing_to_tell_of(pair):
    driver, device = pair(ring_size=4096)
    descriptor = driver.interrupt.fileno()
    answers, later = map_with_an_answer_in_hand(driver, device)
    assert readable(descriptor)
    del answers, later
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not readable(descriptor)


def map_with_an_answer_in_hand(driver, device):
    """Give a map whose next answer is there already, because another call has put it aside."""
    answers = driver.map([b"a", b"b", b"c"], depth=2, timeout=5)
    later = driver.map([b"d"], timeout=0)
    asked = []

    def answer_the_first():
        request = device.take()
        asked.append(request)
        request.complete(b"A")

    thread = threading.Thread(target=answer_the_first)
    thread.start()
    assert next(answers) == b"A"
    thread.join()
    device.take().complete(b"B")
    with pytest.raises(ringbell.RingEmpty):
        next(later)
    return answers, later


def test_an_event_loop_is_told_of_the_next_answer_of_a_map(pair):
    driver, device = pair(ring_size=4096)
    descriptor = driver.interrupt.fileno()
    answers, later = map_with_an_answer_in_hand(driver, device)
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert readable(descriptor)  # the answer is there, but it is not for reap
    assert next(answers) == b"B"
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not readable(descriptor)
