# SPDX-License-Identifier: MIT
"""When a side that sleeps is woken: coalescing, moderation, and descriptors to sleep on."""

import os
import random
import select
import signal
import threading
import time

import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell import Moderation

SMALL_RING = 4096
SMALL_RING_MESSAGES = 64


@pytest.fixture
def both(start, connect):
    """Make a driver here, and a device in another process."""

    def make(moderation=None, polling="never", **options):
        device = start("device", polling=polling)
        driver = connect(**options)
        if moderation:
            device.run(f"setattr(device.doorbell, 'moderation', ringbell.{moderation!r})")
        return driver, device

    return make


def begin_to_receive(driver, device, sleeps=1):
    """Have the device receive one message, and wait until it has gone to sleep `sleeps` times."""
    device.begin("device.doorbell.recv()")
    wait_until(lambda: driver.stats().device.consumer.sleeps >= sleeps)


@pytest.fixture
def asleep(both):
    """A device that has gone to sleep over an empty doorbell ring, and is stopped there."""

    def make(**options):
        driver, device = both(**options)
        device.begin("""
while message := device.doorbell.recv():
    pass
""")
        wait_until(lambda: driver.stats().device.consumer.sleeps >= 1)
        device.stop()
        return driver, device

    return make


def finish(driver, device):
    """Everything sent is taken, up to the empty message that ends the loop."""
    device.signal(signal.SIGCONT)
    driver.doorbell.send(b"")
    device.reply()
    stats = driver.stats()
    assert stats.dwi == stats.dri
    return stats


def kicks(driver):
    producer = driver.stats().driver.producer
    return producer.kicks_sent, producer.kicks_late


def test_a_deferred_burst_of_1000_is_one_kick(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce():
        for _ in range(1000):
            driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_a_block_that_an_exception_leaves_sends_its_kick(asleep):
    driver, device = asleep()
    with pytest.raises(ZeroDivisionError), driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
        raise ZeroDivisionError
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_a_block_sends_no_kick_to_a_device_that_is_awake(pair):
    driver, _ = pair()
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 0)


def test_a_block_that_nobody_could_leave_sends_its_kick_when_it_is_dropped(asleep):
    # A signal handler may raise before __exit__ begins. Then nobody leaves the block.
    driver, device = asleep()
    block = driver.doorbell.coalesce()
    block.__enter__()
    driver.doorbell.send(b"x")
    del block
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_kicks_are_held_back_for_so_many_entries_at_most(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce(max_entries=10):
        for _ in range(9):
            driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
        driver.doorbell.send(b"x")
        assert kicks(driver) == (1, 0)
        for _ in range(20):
            driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 0), "it has been kicked and not slept since"
    finish(driver, device)


def test_entries_are_counted_anew_after_each_kick(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce(max_entries=3):
        for i in range(1, 4):
            for _ in range(3):
                driver.doorbell.send(b"x")
            assert kicks(driver) == (i, 0)
            device.signal(signal.SIGCONT)
            wait_until(lambda i=i: driver.stats().device.consumer.sleeps > i)
    finish(driver, device)


def test_kicks_are_held_back_for_a_bounded_time(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce(max_delay=0.001):
        for i in range(1, 4):
            # The device sleeps each time. Without the timer it would sleep for ever.
            driver.doorbell.send(b"x")
            assert driver.stats().driver.producer.kicks_late == i
            device.signal(signal.SIGCONT)
            wait_until(lambda i=i: driver.stats().device.consumer.sleeps > i)
        assert driver.stats().device.consumer.entries == 3
        assert kicks(driver) == (0, 3)
    finish(driver, device)


def test_a_full_ring_is_told_before_the_end_of_the_block(asleep):
    driver, device = asleep(ring_size=SMALL_RING)
    with driver.doorbell.coalesce():
        for _ in range(SMALL_RING_MESSAGES):
            driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
        with pytest.raises(ringbell.RingFull):
            driver.doorbell.send(b"x", timeout=0)
        assert kicks(driver) == (1, 0)
        device.signal(signal.SIGCONT)
        for _ in range(10 * SMALL_RING_MESSAGES):
            driver.doorbell.send(b"x")
    finish(driver, device)


@pytest.mark.parametrize("polling", ["never", "adaptive", "always"])
def test_who_waits_inside_the_block_sends_the_kick_before(start, connect, polling):
    start("serve", handler="upper", polling="never")
    driver = connect(polling=polling)
    wait_until(lambda: driver.stats().device.consumer.sleeps >= 1)
    with driver.doorbell.coalesce():
        assert driver.call(b"x") == b"X"
        driver.submit(b"y")
        assert driver.reap().payload == b"Y"


def test_the_other_end_may_sleep_in_its_own_thread_while_kicks_are_held_back(start, connect):
    # Both threads may send the same kick twice. The test is that no kick is missing.
    device = start("device", polling="never")
    driver = connect(polling="never")
    device.begin("""
while message := device.doorbell.recv():
    device.interrupt.send(message)
""")
    count = 3000
    arrived = []
    thread = threading.Thread(
        target=lambda: arrived.extend(driver.interrupt.recv() for _ in range(count))
    )
    thread.start()
    for first in range(0, count, 3):
        with driver.doorbell.coalesce():
            for i in range(first, first + 3):
                driver.doorbell.send(b"%d" % i)
    thread.join()
    assert arrived == [b"%d" % i for i in range(count)]
    driver.doorbell.send(b"")
    device.reply()


def test_one_block_at_a_time_and_none_after_close(pair):
    driver, _ = pair()
    with (
        driver.doorbell.coalesce(),
        pytest.raises(RuntimeError, match="already"),
        driver.doorbell.coalesce(),
    ):
        pass
    with driver.doorbell.coalesce():
        driver.close()
    with pytest.raises(ringbell.ChannelClosed), driver.doorbell.coalesce():
        pass


@pytest.mark.parametrize(
    "bounds",
    [
        {"max_entries": 0},
        {"max_entries": -1},
        {"max_delay": 0},
        {"max_delay": -1.0},
        {"max_delay": float("nan")},
        {"max_delay": float("inf")},
    ],
)
def test_nonsense_bounds_are_refused(pair, bounds):
    driver, _ = pair()
    with pytest.raises(ValueError, match=r"is above 0|is at least 1"):
        driver.doorbell.coalesce(**bounds)


def test_moderation_counts_entries(asleep):
    driver, device = asleep(moderation=Moderation(32, 1.0))
    for i in range(31):
        assert kicks(driver) == (0, min(i, 1))
        driver.doorbell.send(b"x" * 100)  # two slots each: entries are counted, not slots
    assert kicks(driver) == (0, 1)
    driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 1)
    driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 1)
    finish(driver, device)


def test_a_device_that_has_woken_up_is_not_kicked_for_what_it_wanted_before(both):
    driver, device = both(Moderation(3, 0.001))
    begin_to_receive(driver, device)
    driver.doorbell.send(b"x")
    device.reply()
    for _ in range(5):
        driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 1)


def test_moderation_waits_for_a_bounded_time(both):
    driver, device = both(Moderation(1000, 0.001))
    for i in range(1, 4):
        begin_to_receive(driver, device, sleeps=i)
        driver.doorbell.send(b"x")
        device.reply()
    assert kicks(driver) == (0, 3)


def test_moderation_does_not_hold_up_a_full_ring(asleep):
    driver, device = asleep(ring_size=SMALL_RING, moderation=Moderation(1000, 1.0))
    for _ in range(SMALL_RING_MESSAGES):
        driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 1)
    with pytest.raises(ringbell.RingFull):
        driver.doorbell.send(b"x", timeout=0)
    assert kicks(driver) == (1, 1)
    finish(driver, device)


def test_a_moderated_device_inside_a_coalescing_block(asleep):
    driver, device = asleep(moderation=Moderation(32, 1.0))
    with driver.doorbell.coalesce():
        for _ in range(31):
            driver.doorbell.send(b"x")
    assert kicks(driver) == (0, 1), "it wants no kick yet"
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 1)
    assert kicks(driver) == (1, 1)
    finish(driver, device)


def test_a_block_leaves_the_timer_of_a_moderated_device_alone(both):
    driver, device = both(Moderation(1000, 0.001))
    begin_to_receive(driver, device)
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
    assert device.reply() == "b'x'"


def test_a_timer_that_is_over_is_over_once(both):
    driver, device = both(Moderation(1000, 0.001))
    begin_to_receive(driver, device)
    driver.doorbell.send(b"x")
    device.reply()
    begin_to_receive(driver, device, sleeps=2)
    time.sleep(0.05)  # if its sleeps ended at once, there would be many by now
    assert driver.stats().device.consumer.sleeps == 2
    driver.doorbell.send(b"x")
    device.reply()


def test_the_bound_of_a_block_holds_for_a_moderated_device(asleep):
    driver, device = asleep(moderation=Moderation(2, 1.0))
    with driver.doorbell.coalesce(max_delay=0.001):
        driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 1)
        driver.doorbell.send(b"x")
        begin = time.monotonic()
        device.signal(signal.SIGCONT)
        wait_until(lambda: driver.stats().device.consumer.entries == 2)
        assert time.monotonic() - begin < 0.5, "it was woken by its own timer"
    finish(driver, device)


def test_moderation_is_an_option_and_changes_while_running(start, connect):
    start("serve", handler="upper", polling="never")
    driver = connect(polling="never", moderation=Moderation(2, 0.001))
    interrupt = driver.interrupt
    assert interrupt.moderation == Moderation(2, 0.001)

    def is_woken_late():
        assert driver.call(b"x") == b"X"
        return driver.stats().device.producer.kicks_late > 0

    wait_until(is_woken_late)  # answers may come before the driver sleeps; then try again
    interrupt.moderation = None
    before = driver.stats().device.producer.kicks_late
    assert [driver.call(b"%d" % i) for i in range(20)] == [b"%d" % i for i in range(20)]
    assert driver.stats().device.producer.kicks_late == before


@pytest.mark.parametrize(
    ("entries", "delay"),
    [
        (1, 1e-3),
        (0, 1e-3),
        (-5, 1e-3),
        (2**33, 1e-3),
        (32, 0),
        (32, -1),
        (32, 2),
        (32, float("nan")),
    ],
)
def test_nonsense_moderation_is_refused(entries, delay):
    with pytest.raises(ValueError, match="entries is from|delay is above"):
        Moderation(entries, delay)


def test_moderation_is_no_number(pair, path):
    driver, _ = pair()
    with pytest.raises(TypeError, match=r"ringbell\.Moderation or None"):
        driver.interrupt.moderation = 32
    with pytest.raises(TypeError, match=r"ringbell\.Moderation or None"):
        ringbell.listen(path, moderation=50e-6)


def is_readable(end):
    return bool(select.select([end], [], [], 0)[0])


def test_the_descriptor_is_readable_while_there_is_something_to_take(pair):
    driver, device = pair()
    driver.doorbell.send(b"before")
    assert is_readable(device.doorbell)
    for i in range(3):
        driver.doorbell.send(b"%d" % i)
    for message in (b"before", b"0", b"1", b"2"):
        assert is_readable(device.doorbell)
        assert device.doorbell.recv() == message
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv(timeout=0)
    assert not is_readable(device.doorbell)
    driver.submit(b"request")
    assert is_readable(device.doorbell)
    device.take().complete(b"answer")
    assert is_readable(driver.interrupt)


def test_a_timer_makes_the_descriptor_readable_once(pair):
    driver, device = pair()
    device.doorbell.moderation = Moderation(1000, 0.001)
    assert not is_readable(device.doorbell)
    for i in range(1, 4):
        driver.doorbell.send(b"x")
        select.select([device.doorbell], [], [])
        assert kicks(driver) == (0, i)
        device.doorbell.recv()
        with pytest.raises(ringbell.RingEmpty):
            device.doorbell.recv(timeout=0)
        assert not is_readable(device.doorbell)


def test_a_kick_takes_the_timer_back(pair):
    driver, device = pair()
    assert not is_readable(device.doorbell)
    delay = 0.01
    with driver.doorbell.coalesce(max_delay=delay):
        driver.doorbell.send(b"x")
    assert kicks(driver) == (1, 1)
    device.doorbell.recv()
    with pytest.raises(ringbell.RingEmpty):
        device.doorbell.recv(timeout=0)
    # If the timer were still set, it would expire in this time.
    assert not select.select([device.doorbell], [], [], 5 * delay)[0]


@pytest.mark.parametrize("polling", ["never", "adaptive"])
def test_a_wait_that_was_woken_leaves_the_descriptor_readable(both, polling):
    # One kick tells of both messages. The wait drains the kick and takes one message.
    driver, device = both(polling=polling)
    device.run("device.doorbell.fileno()")
    begin_to_receive(driver, device)
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"1")
        driver.doorbell.send(b"2")
    assert device.reply() == "b'1'"
    device.run("import select")
    assert device.run("bool(select.select([device.doorbell], [], [], 0)[0])") == "True"
    assert device.run("device.doorbell.recv()") == "b'2'"


def test_a_wait_that_a_signal_ended_leaves_the_descriptor_readable(both):
    driver, device = both()
    device.run("device.doorbell.fileno()")
    begin_to_receive(driver, device)
    device.stop()
    driver.doorbell.send(b"1")
    device.signal(signal.SIGINT)
    device.signal(signal.SIGCONT)
    with pytest.raises(PeerError, match="KeyboardInterrupt"):
        device.reply()
    device.run("import select")
    assert device.run("bool(select.select([device.doorbell], [], [], 0)[0])") == "True"
    assert device.run("device.doorbell.recv()") == "b'1'"


def test_a_block_and_an_event_loop_on_the_same_side(asleep):
    driver, device = asleep()
    assert not is_readable(driver.interrupt)
    with driver.doorbell.coalesce():
        driver.doorbell.send(b"x")
        with pytest.raises(ringbell.RingEmpty):
            driver.interrupt.recv(timeout=0)
        assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_completions_set_aside_are_still_to_be_taken(pair):
    driver, device = pair(ring_size=SMALL_RING)
    assert not is_readable(driver.interrupt)
    for _ in range(SMALL_RING_MESSAGES):
        driver.submit(b"")
    device.take().complete(b"1")
    driver.submit(b"", timeout=10)
    device.take().complete(b"2")
    with pytest.raises(ringbell.RingFull):
        [driver.submit(b"", timeout=0) for _ in range(2)]
    for answer in (b"1", b"2"):
        assert is_readable(driver.interrupt)
        assert driver.reap(timeout=0).payload == answer
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not is_readable(driver.interrupt)


def test_an_answer_that_nobody_waits_for_does_not_keep_it_readable(pair):
    driver, device = pair()
    assert not is_readable(driver.interrupt)
    with pytest.raises(ringbell.RingEmpty):
        driver.call(b"x", timeout=0)
    device.take().complete(b"late")
    assert is_readable(driver.interrupt)
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)
    assert not is_readable(driver.interrupt)


def test_a_block_that_outlives_a_channel_that_nobody_closed_kicks_nobody_else(asleep):
    driver, _ = asleep()
    block = driver.doorbell.coalesce()
    block.__enter__()
    driver.doorbell.send(b"x")
    data = driver._channel._descriptors[1]
    with pytest.warns(ResourceWarning):
        driver._channel.__del__()
    made = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        os.dup2(made, data)
        del block
        with pytest.raises(BlockingIOError):
            os.eventfd_read(data)
    finally:
        os.close(made)
        if made != data:
            os.close(data)


POLL_LOOP = """
import select
poll = select.epoll()
poll.register(device.doorbell, select.EPOLLIN)
seen = 0
while seen is not None:
    poll.poll()
    for _ in range(take):
        try:
            message = device.doorbell.recv(timeout=0)
        except ringbell.RingEmpty:
            break
        if not message:
            seen = None
            break
        assert message == b'%d' % seen, (message, seen)
        seen += 1
poll.close()
"""


@pytest.mark.parametrize("moderation", [None, Moderation(3, 0.0005)])
@pytest.mark.parametrize("take", [1, 3, 10**9])
def test_an_event_loop_misses_nothing_however_much_it_takes_at_a_time(both, take, moderation):
    driver, device = both(moderation, polling="adaptive", ring_size=SMALL_RING)
    device.run(f"take = {take}")
    device.begin(POLL_LOOP)
    rng = random.Random(take)
    sent = 0
    while sent < 1000:
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            driver.doorbell.send(b"%d" % sent)
            sent += 1
        if rng.random() < 0.3:
            # Once it has taken all, the next message finds it asleep, or about to sleep.
            wait_until(lambda n=sent: driver.stats().device.consumer.entries == n)
        elif rng.random() < 0.3:
            begin = time.perf_counter_ns()
            while time.perf_counter_ns() - begin < rng.randrange(20000):
                pass
    driver.doorbell.send(b"")
    device.reply()


@pytest.mark.parametrize(
    ("ending", "error"), [("device.close()", ringbell.EndOfStream), (None, ringbell.PeerLost)]
)
def test_the_descriptor_is_readable_when_the_other_side_has_gone(start, connect, ending, error):
    device = start("device")
    driver = connect()
    poll = select.epoll()
    with poll:
        poll.register(driver.interrupt)
        with pytest.raises(ringbell.RingEmpty):
            driver.interrupt.recv(timeout=0)
        if ending:
            device.run(ending)
        else:
            device.kill()
        assert poll.poll()
        with pytest.raises(error):
            driver.interrupt.recv(timeout=0)


def test_a_closed_channel_has_no_descriptor(pair):
    driver, _ = pair()
    fd = driver.interrupt.fileno()
    assert driver.interrupt.fileno() == fd
    driver.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    with pytest.raises(ringbell.ChannelClosed):
        driver.interrupt.fileno()


def test_entering_a_block_again_inside_itself_is_an_error_and_holds_nothing_back_for_ever(asleep):
    driver, device = asleep()
    block = driver.doorbell.coalesce()
    with block:
        driver.doorbell.send(b"x")
        with pytest.raises(RuntimeError, match="inside a coalesce.. block already"), block:
            pass
        assert kicks(driver) == (0, 0)
    assert kicks(driver) == (1, 0)
    finish(driver, device)


def test_a_block_that_could_not_begin_ends_no_other(asleep):
    driver, device = asleep()
    with driver.doorbell.coalesce():
        other = driver.doorbell.coalesce()
        with pytest.raises(RuntimeError, match="inside a coalesce.. block already"):
            other.__enter__()
        other.__exit__(None, None, None)
        del other
        driver.doorbell.send(b"x")
        assert kicks(driver) == (0, 0)
    assert kicks(driver) == (1, 0)
    finish(driver, device)
