# SPDX-License-Identifier: MIT
"""Close while another thread waits in a call, or while a signal handler interrupts one."""

import os
import random
import signal
import threading
import time
from contextlib import contextmanager

import pytest
from processes import wait_until

import ringbell

POLLINGS = ["never", "adaptive", "always"]


class Waiter:
    """A thread that makes one call, and keeps the exception that the call raised."""

    def __init__(self, call):
        self.call = call
        self.raised = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            self.call()
        except BaseException as error:
            self.raised = error

    def join(self):
        self.thread.join()
        return self.raised


def blocked(end, side):
    """Tell whether that side waits for something: it sleeps, or it polls and never sleeps."""
    stats = getattr(end.stats(), side)
    return stats.consumer.times_empty + stats.producer.times_full > 0


def check_that_close_ends_it(waiter, end, side):
    wait_until(lambda: blocked(end, side))
    end.close()
    assert isinstance(waiter.join(), ringbell.ChannelClosed)


def fill(producer):
    with pytest.raises(ringbell.RingFull):
        while True:
            producer.send(b"x" * 500, timeout=0)


def fill_records(producer):
    with pytest.raises(ringbell.RingFull):
        while True:
            producer.write(range(100), timeout=0)


DRIVER_WAITS = {
    "recv": lambda driver: driver.interrupt.recv(),
    "recv with a timeout": lambda driver: driver.interrupt.recv(timeout=1000),
    "recv_many": lambda driver: driver.interrupt.recv_many(),
    "borrow": lambda driver: driver.interrupt.borrow(),
    "hold": lambda driver: driver.interrupt.hold(),
    "iteration": lambda driver: next(iter(driver.interrupt)),
    "call": lambda driver: driver.call(b"x"),
    "call_and_hold": lambda driver: driver.call_and_hold(b"x"),
    "reap": lambda driver: (driver.submit(b"x"), driver.reap()),
    "map": lambda driver: list(driver.map([b"x"] * 3)),
}
DRIVER_WAITS_FOR_ROOM = {
    "send": lambda driver: driver.doorbell.send(b"x" * 500),
    "send in pieces": lambda driver: driver.doorbell.send(b"x" * 9000),
    "send_many": lambda driver: driver.doorbell.send_many([b"x" * 500]),
    "reserve": lambda driver: driver.doorbell.reserve(500),
    "submit": lambda driver: driver.submit(b"x" * 500),
    "submit in place": lambda driver: driver.reserve(500),
    "submit with a timeout": lambda driver: driver.submit(b"x" * 500, timeout=1000),
}


@pytest.mark.parametrize("polling", POLLINGS)
def test_close_ends_every_wait_of_a_driver_in_another_thread(pair, path, polling):
    for wait in DRIVER_WAITS.values():
        driver, device = pair(polling=polling)
        waiter = Waiter(lambda: wait(driver))  # noqa: B023
        check_that_close_ends_it(waiter, driver, "driver")
        with pytest.raises(ringbell.EndOfStream):  # a polite end
            while True:
                device.take().complete()
        device.close()


@pytest.mark.parametrize("polling", POLLINGS)
def test_close_ends_every_wait_for_room_in_another_thread(pair, polling):
    for wait in DRIVER_WAITS_FOR_ROOM.values():
        driver, device = pair(polling=polling, ring_size=4096)
        fill(driver.doorbell)
        before = driver.stats().driver.producer.times_full
        waiter = Waiter(lambda: wait(driver))  # noqa: B023
        wait_until(lambda: driver.stats().driver.producer.times_full > before)  # noqa: B023
        driver.close()
        assert isinstance(waiter.join(), ringbell.ChannelClosed)
        device.close()


@pytest.mark.parametrize("polling", POLLINGS)
def test_close_ends_every_wait_of_a_device_in_another_thread(pair, polling):
    waits = {
        "take": lambda device: device.take(),
        "iteration": lambda device: next(iter(device)),
        "recv": lambda device: device.doorbell.recv(),
    }
    for wait in waits.values():
        driver, device = pair({"polling": polling})
        waiter = Waiter(lambda: wait(device))  # noqa: B023
        check_that_close_ends_it(waiter, device, "device")
        with pytest.raises(ringbell.EndOfStream):
            driver.call(b"x")
        driver.close()


@pytest.mark.parametrize("polling", POLLINGS)
def test_close_ends_the_wait_of_a_completion_for_room(pair, polling):
    driver, device = pair({"polling": polling}, ring_size=4096)
    driver.submit(b"x")
    request = device.take()
    fill(device.interrupt)
    before = device.stats().device.producer.times_full
    waiter = Waiter(lambda: request.complete(b"y" * 500))
    wait_until(lambda: device.stats().device.producer.times_full > before)
    device.close()
    assert isinstance(waiter.join(), ringbell.ChannelClosed)


@pytest.mark.parametrize("polling", POLLINGS)
def test_close_ends_every_wait_of_a_stream_in_another_thread(stream, polling):
    moderation = ringbell.Moderation(entries=50, delay=1.0)
    taking = {"polling": polling, "moderation": moderation}
    for wait in (
        lambda end: end.read(),
        lambda end: end.borrow(),
        lambda end: list(end),
    ):
        producer, consumer = stream("u8", consume=taking)
        waiter = Waiter(lambda: wait(consumer))  # noqa: B023
        check_that_close_ends_it(waiter, consumer, "device")
        with pytest.raises(ringbell.EndOfStream):
            producer.write([1])
        producer.close()
    for wait in (lambda end: end.write([1] * 600), lambda end: end.reserve(500)):
        producer, consumer = stream("u8", ring_size=4096, polling=polling)
        fill_records(producer)
        before = producer.stats().driver.producer.times_full
        waiter = Waiter(lambda: wait(producer))  # noqa: B023
        wait_until(lambda: producer.stats().driver.producer.times_full > before)  # noqa: B023
        producer.close()
        assert isinstance(waiter.join(), ringbell.ChannelClosed)
        assert sum(len(rows) for rows in consumer) == 512
        consumer.close()


def test_both_ends_of_a_side_are_waited_for_in_two_threads(pair):
    driver, device = pair(ring_size=4096, polling="never")
    fill(driver.doorbell)
    waiters = [
        Waiter(lambda: driver.doorbell.send(b"x" * 500)),
        Waiter(lambda: driver.interrupt.recv()),
    ]
    for end in ("producer", "consumer"):
        wait_until(lambda: getattr(driver.stats().driver, end).sleeps)  # noqa: B023
    driver.close()
    assert all(isinstance(waiter.join(), ringbell.ChannelClosed) for waiter in waiters)


def test_a_wait_ends_within_a_tenth_of_a_second(pair):
    took = []
    for _ in range(5):
        driver, device = pair(polling="never")
        waiter = Waiter(lambda: driver.call(b"x"))  # noqa: B023
        wait_until(lambda: driver.stats().driver.consumer.sleeps)  # noqa: B023
        began = time.monotonic()
        driver.close()
        waiter.join()
        took.append(time.monotonic() - began)
        device.close()
    # The shortest counts, as the machine may be busy. A wait that close does not end never ends.
    assert min(took) < 0.1


def test_a_block_of_with_that_ends_in_one_thread_ends_the_wait_in_another(pair):
    driver, device = pair(polling="never")
    with driver:
        waiter = Waiter(lambda: driver.interrupt.recv())
        wait_until(lambda: driver.stats().driver.consumer.sleeps)
    assert isinstance(waiter.join(), ringbell.ChannelClosed)
    with pytest.raises(ringbell.EndOfStream):
        device.take()


def test_an_interrupted_block_of_a_producer_gives_the_stream_up_that_another_thread_writes(stream):
    producer, consumer = stream(ring_size=4096, polling="never")

    def interrupted():
        with producer:
            fill(producer)
            waiters.append(Waiter(lambda: producer.send(b"x" * 500)))
            wait_until(lambda: producer.stats().driver.producer.sleeps)
            raise ZeroDivisionError

    waiters = []
    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert isinstance(waiters[0].join(), ringbell.ChannelClosed)
    with pytest.raises(ringbell.PeerLost):
        while True:
            consumer.recv()


def test_closing_in_two_threads_at_once_closes_once_and_both_return(pair):
    for _ in range(50):
        driver, device = pair(polling="never")
        waiter = Waiter(lambda: driver.interrupt.recv())  # noqa: B023
        closers = [Waiter(driver.close) for _ in range(3)]
        assert [closer.join() for closer in closers] == [None] * 3
        assert isinstance(waiter.join(), ringbell.ChannelClosed)
        with pytest.raises(ringbell.EndOfStream):
            device.take()
        device.close()


def test_close_waits_for_a_thread_that_copies(pair):
    driver, device = pair(ring_size=1 << 22)
    payload = bytes(1 << 21)
    sender = Waiter(lambda: [driver.doorbell.send(payload) for _ in range(1_000_000)])
    while driver.stats().driver.producer.entries < 20:
        device.doorbell.recv()
    driver.close()
    assert isinstance(sender.join(), ringbell.ChannelClosed)
    sent = driver.stats().driver.producer.entries
    with pytest.raises(ringbell.EndOfStream):
        while True:
            device.doorbell.recv()
    assert device.stats().driver.producer.entries == sent


def test_a_storm_of_closes_against_waits_misses_none(stream):
    """Close at every moment of a wait: while it begins, polls, arms, or goes to sleep."""
    chance = random.Random(7)
    for turn in range(150):
        producer, consumer = stream(consume={"polling": chance.choice(POLLINGS)})
        began = threading.Event()

        def wait(began=began, consumer=consumer):
            began.set()
            consumer.recv()

        waiter = Waiter(wait)
        began.wait()
        if turn % 3:
            time.sleep(chance.uniform(0, 0.0004))  # closes at another moment each time
        consumer.close()
        assert isinstance(waiter.join(), ringbell.ChannelClosed)
        producer.close()


# ---- signal handlers, atexit ----


@contextmanager
def handling(handler):
    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def interrupt_when(condition):
    def interrupt():
        wait_until(condition)
        os.kill(os.getpid(), signal.SIGUSR1)

    return Waiter(interrupt)


@pytest.mark.parametrize("polling", POLLINGS)
def test_a_handler_may_close_what_it_interrupted(pair, polling):
    for wait in DRIVER_WAITS.values():
        driver, device = pair(polling=polling)
        with handling(driver.close):
            killer = interrupt_when(lambda: blocked(driver, "driver"))  # noqa: B023
            with pytest.raises(ringbell.ChannelClosed):
                wait(driver)
            assert killer.join() is None
        with pytest.raises(ringbell.EndOfStream):
            while True:
                device.take().complete()
        device.close()


def test_a_handler_may_close_a_stream_that_it_interrupted(stream):
    producer, consumer = stream("u8", polling="never", ring_size=4096)
    fill_records(producer)
    sleeps = producer.stats().driver.producer.sleeps
    with handling(producer.close):
        killer = interrupt_when(lambda: producer.stats().driver.producer.sleeps > sleeps)
        with pytest.raises(ringbell.ChannelClosed):
            producer.write([1])
        assert killer.join() is None
    assert sum(len(rows) for rows in consumer) == 512


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_what_a_handler_closed_gives_its_descriptors_back_without_another_close(pair):
    driver, device = pair(polling="never")
    device.close()
    driver.close()
    before = descriptors()
    driver, device = pair(polling="never")
    with handling(driver.close):
        killer = interrupt_when(lambda: blocked(driver, "driver"))
        with pytest.raises(ringbell.ChannelClosed):
            driver.interrupt.recv()
        killer.join()
    device.close()
    wait_until(lambda: descriptors() == before)


def test_a_handler_may_close_what_another_thread_waits_in(pair):
    driver, device = pair(polling="never")
    waiter = Waiter(lambda: driver.call(b"x"))
    wait_until(lambda: driver.stats().driver.consumer.sleeps)
    with handling(driver.close):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert isinstance(waiter.join(), ringbell.ChannelClosed)
    with pytest.raises(ringbell.EndOfStream):
        while True:
            device.take().complete()


def test_close_does_not_wait_for_ever_for_code_of_the_caller(pair):
    """A signal handler that interrupts a call may wait for the thread that closes."""
    driver, device = pair(polling="never")
    closed = threading.Event()

    def handler():
        closer = Waiter(lambda: (driver.close(), closed.set()))
        closed.wait()
        assert closer.join() is None

    with handling(handler):
        killer = interrupt_when(lambda: blocked(driver, "driver"))
        with pytest.raises(ringbell.ChannelClosed):
            driver.interrupt.recv()
        killer.join()
    with pytest.raises(ringbell.EndOfStream):
        device.take()


def test_what_is_closed_at_exit_ends_the_wait_of_a_thread(start):
    peer = start("nothing")
    peer.run("""exec('''
import atexit, os, sys, threading
with ringbell.listen(path) as listener:
    got = []
    accepting = threading.Thread(target=lambda: got.append(listener.accept()))
    accepting.start()
    driver = ringbell.connect(path, polling="never")
    accepting.join()
def wait():
    try:
        driver.call(b"x")
    except BaseException as error:
        print(chr(123) + '"value": "' + type(error).__name__ + '"' + chr(125), flush=True)
waiting = threading.Thread(target=wait, daemon=True)
waiting.start()
def close():
    driver.close()
    waiting.join()
    got[0].close()
atexit.register(close)
while driver.stats().driver.consumer.sleeps == 0:
    time.sleep(0.001)
''', globals())""")
    peer.process.stdin.close()  # the peer ends
    assert peer.reply() == "ChannelClosed"
    assert peer.process.wait() == 0


# ---- after a close ----


def test_nothing_of_a_closed_channel_is_changed(pair, stream):
    driver, device = pair()
    ends = [driver.interrupt, device.doorbell]
    driver.close()
    device.close()
    producer, consumer = stream("u8")
    ends.append(consumer)
    consumer.close()
    for end in ends:
        with pytest.raises(ringbell.ChannelClosed):
            end.moderation = None
        with pytest.raises(ringbell.ChannelClosed):
            end.fileno()
    producer.close()


def test_calls_that_have_nothing_to_do_are_refused_after_close_too(pair, stream):
    driver, device = pair()
    messages, _ = stream()
    device.close()
    messages.close()
    for use in (
        lambda: device.interrupt.send_many([]),
        lambda: messages.send_many(()),
        messages.check_consumer,
    ):
        with pytest.raises(ringbell.ChannelClosed):
            use()
    driver.close()


def test_no_records_are_refused_after_close_too(stream):
    records, _ = stream("i4")
    assert records.write([]) == 0
    records.close()
    for use in (lambda: records.write([]), records.check_consumer):
        with pytest.raises(ringbell.ChannelClosed):
            use()


def test_blocks_that_another_thread_closed_end_quietly(pair):
    driver, device = pair()
    block = driver.doorbell.coalesce()
    with pytest.raises(ringbell.ChannelClosed), block, driver.reserve(8) as frame:
        Waiter(driver.close).join()
        frame.payload[:] = b"too late"
    with pytest.raises(ringbell.EndOfStream):
        device.take()
    del frame
