# SPDX-License-Identifier: MIT
"""What polling does, learns and counts, and how its share of the time is bounded."""

import contextlib
import time

import pytest

import ringbell

MAX_POLL_NS = 100_000  # the default
SMALL_RING = 4096


def polled(counters):
    return counters.found + counters.missed


@pytest.fixture
def woken(start, consume):
    """Receive messages, each of which is sent once the consumer has gone to sleep for it."""

    def make(late=0.0, **options):
        # `late` is the least time from its falling asleep to the message, in seconds.
        producer = start("producer")
        consumer = consume(**options)
        producer.run(f"""
def send_to_the_sleeper(count, sleeps):
    for _ in range(count):
        while producer.stats().device.consumer.sleeps == sleeps:
            pass
        sleeps = producer.stats().device.consumer.sleeps
        time.sleep({late})
        producer.send(b"x")
""")

        def receive(count):
            sleeps = consumer.stats().device.consumer.sleeps
            producer.begin(f"send_to_the_sleeper({count}, {sleeps})")
            for _ in range(count):
                consumer.recv()
            producer.reply()
            return consumer.stats().device.consumer

        return receive, consumer

    return make


def test_a_side_that_never_polls_counts_nothing(woken):
    receive, _ = woken(polling="never")
    counters = receive(10)
    assert counters.polling == ringbell.PollingCounters(0, 0, 0, 0, 0, 0, 0)
    assert counters.sleeps >= counters.wakeups == 10


def test_a_side_that_always_polls_never_sleeps(start, consume):
    producer = start("producer")
    consumer = consume(polling="always")
    for _ in range(3):
        # The producer sends after the consumer has found the ring empty, so polling finds it.
        producer.begin("""
empty = producer.stats().device.consumer.times_empty
while producer.stats().device.consumer.times_empty == empty: pass
producer.send(b"x")
""")
        while True:
            with contextlib.suppress(ringbell.RingEmpty):
                consumer.recv(timeout=0.001)
                break
        producer.reply()
    counters = consumer.stats().device.consumer
    assert counters.sleeps == 0
    assert counters.polling.found >= 1
    assert counters.polling.time_ns > 0
    assert counters.polling.capped == counters.polling.budget_ns == 0


def test_the_first_wait_polls_for_half_of_the_longest_time(stream):
    producer, consumer = stream(consume={"max_poll": 0.02}, max_poll=0.0)
    stats = consumer.stats()
    assert stats.device.consumer.polling.budget_ns == 10_000_000
    assert stats.driver.producer.polling.budget_ns == 0
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0.05)
    polling = consumer.stats().device.consumer.polling
    assert (polling.found, polling.missed, polling.capped) == (0, 1, 0)
    assert polling.time_ns >= 10_000_000


def test_to_look_once_is_no_poll(stream):
    _, consumer = stream()
    for _ in range(10):
        with pytest.raises(ringbell.RingEmpty):
            consumer.recv(timeout=0)
    polling = consumer.stats().device.consumer.polling
    assert polled(polling) == polling.time_ns == polling.capped == 0


def test_an_entry_that_comes_while_it_polls_is_found(start, consume):
    producer = start("producer")
    consumer = consume(max_poll=0.05)
    found = 0
    while not found:
        # On a busy machine the consumer may fall asleep first. Then try once more.
        producer.begin("""
empty = producer.stats().device.consumer.times_empty
while producer.stats().device.consumer.times_empty == empty: pass
producer.send(b"x")
""")
        while True:
            with contextlib.suppress(ringbell.RingEmpty):
                consumer.recv(timeout=0.01)
                break
        producer.reply()
        found = consumer.stats().device.consumer.polling.found
    assert consumer.stats().device.consumer.polling.time_ns > 0


def test_waits_that_are_too_long_for_polling_end_it(woken):
    receive, _ = woken(late=0.002)  # longer than any poll and a slow wake-up together
    counters = receive(12)
    polling = counters.polling
    assert counters.wakeups == 12
    assert polling.found == polling.grown == polling.budget_ns == 0
    assert polling.shrunk >= 4, "50, 25, 12 and 6 microseconds, each in vain"
    assert 1 <= polling.missed <= 4
    again = receive(5).polling
    assert (again.missed, again.time_ns) == (polling.missed, polling.time_ns)


def budget_grows_to(receive, budget_ns):
    """Wake it soon after it has gone to sleep, until it polls for so long."""
    while (polling := receive(1).polling).budget_ns != budget_ns:
        pass
    return polling


def test_polling_that_is_in_vain_again_and_again_rests(woken):
    receive, consumer = woken(max_poll=0.005)
    before = budget_grows_to(receive, 5_000_000)
    assert before.grown >= 1
    waits = 40
    for _ in range(waits):
        # The wait takes twice as long as the longest poll, so the poll ends first.
        with pytest.raises(ringbell.RingEmpty):
            consumer.recv(timeout=0.01)
    after = consumer.stats().device.consumer.polling
    # Between two polls there are 0, 1, 3, 7, 15 waits, unless something holds up this process.
    assert 2 <= after.missed - before.missed <= waits // 2
    assert after.shrunk > before.shrunk
    assert after.found == before.found


def test_max_share_0_never_polls(woken):
    receive, _ = woken(max_share=0)
    counters = receive(10)
    polling = counters.polling
    assert polled(polling) == polling.time_ns == 0
    assert polling.capped >= 1
    assert counters.wakeups == 10


@pytest.mark.parametrize("kind", ["stream", "pair"])
def test_max_share_bounds_every_end_of_a_side(stream, pair, kind):
    if kind == "stream":
        producer, consumer = stream(ring_size=SMALL_RING, max_share=0)
        mine, ends = producer.stats, ("producer",)
    else:
        driver, device = pair(ring_size=SMALL_RING, max_share=0)
        producer, consumer = driver.doorbell, driver.interrupt
        mine, ends = driver.stats, ("producer", "consumer")
        with pytest.raises(ringbell.RingEmpty):
            consumer.recv(timeout=0.001)
    with pytest.raises(ringbell.RingFull):
        for _ in range(100):
            producer.send(b"x", timeout=0.001)
    for end in ends:
        counters = getattr(mine().driver, end)
        assert counters.sleeps >= 1
        assert polled(counters.polling) == counters.polling.time_ns == 0
        assert counters.polling.capped >= 1


@pytest.mark.parametrize("share", [0.002, 0.05])
@pytest.mark.parametrize("side", ["producer", "consumer"])
def test_polling_takes_no_more_than_its_share(stream, side, share):
    began = time.monotonic_ns()
    if side == "consumer":
        _, mine = stream(consume={"max_share": share})
    else:
        mine, _ = stream(ring_size=SMALL_RING, max_share=share)
        mine.send_many([b"x"] * 64)

    def polling():
        stats = mine.stats()
        end = stats.driver.producer if side == "producer" else stats.device.consumer
        return end.polling

    before = polling()
    while polled(before) < 60:
        with contextlib.suppress(TimeoutError):
            mine.recv(timeout=3e-4) if side == "consumer" else mine.send(b"x", timeout=3e-4)
        after = polling()
        if polled(after) > polled(before):
            # A poll begins only if all polls before it were within the share. The poll itself
            # may take any time, because this process may be held up.
            assert before.time_ns <= share * (time.monotonic_ns() - began)
        before = after
    assert before.capped > 0


def test_polling_is_not_capped_unless_asked_for(stream):
    _, consumer = stream()
    for _ in range(30):
        with pytest.raises(ringbell.RingEmpty):
            consumer.recv(timeout=2e-4)
    polling = consumer.stats().device.consumer.polling
    assert polling.capped == 0
    assert polling.missed > 0
    assert polling.budget_ns <= MAX_POLL_NS


@pytest.mark.parametrize("share", [-0.1, 1.001, float("nan"), float("inf"), -1])
def test_a_share_that_is_none_is_a_value_error(path, share):
    for use in (ringbell.connect, ringbell.listen, ringbell.produce, ringbell.consume):
        with pytest.raises(ValueError, match="max_share is from 0 to 1"):
            use(path, max_share=share)


def test_a_side_that_always_polls_has_no_bound(path):
    for use in (ringbell.connect, ringbell.listen, ringbell.produce, ringbell.consume):
        with pytest.raises(ValueError, match="has no bound"):
            use(path, max_share=0.5, polling="always")
