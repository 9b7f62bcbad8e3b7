# SPDX-License-Identifier: MIT
"""An end is for one thread at a time: a second one, or a signal handler, gets an error.

Any thread may close: see test_closing.py.
"""

import os
import signal
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from processes import wait_until

import ringbell

IN_USE = r"is in use: another thread \(or the code that this signal handler interrupted\) is inside"


@contextmanager
def waiting(call, sleeps):
    """Have another thread wait in a call; the block ends the wait."""
    error = []

    def run():
        try:
            call()
        except ringbell.RingbellError as raised:
            error.append(raised)

    before = sleeps()
    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: sleeps() > before)
    yield
    thread.join()
    assert not error


def everything_of_a_driver(driver):
    return {
        "submit": lambda: driver.submit(b"x"),
        "submit without waiting": lambda: driver.submit(b"x", timeout=0),
        "call": lambda: driver.call(b"x"),
        "call_and_hold": lambda: driver.call_and_hold(b"x"),
        "map": lambda: next(driver.map([b"x"])),
        "reserve": lambda: driver.reserve(1),
        "reap": lambda: driver.reap(),
        "reap without waiting": lambda: driver.reap(timeout=0),
        **everything_of_a_consumer(driver.interrupt),
    }


def everything_of_a_consumer(consumer):
    return {
        "recv": lambda: consumer.recv(),
        "recv without waiting": lambda: consumer.recv(timeout=0),
        "recv_many": lambda: consumer.recv_many(),
        "borrow": lambda: consumer.borrow(),
        "hold": lambda: consumer.hold(),
        "iteration": lambda: next(iter(consumer)),
        "fileno": lambda: consumer.fileno(),
        "moderation": lambda: setattr(consumer, "moderation", None),
    }


def everything_of_a_producer(producer):
    return {
        "send": lambda: producer.send(b"x"),
        "send_many": lambda: producer.send_many([b"x"]),
        "reserve": lambda: producer.reserve(1),
        "coalesce": lambda: producer.coalesce().__enter__(),
    }


def refused(calls):
    for name, call in calls.items():
        with pytest.raises(RuntimeError, match=IN_USE):
            call()
            pytest.fail(name)


def test_nothing_of_a_driver_is_for_a_second_thread(pair):
    driver, device = pair(polling="never")
    driver.doorbell.send(b"for nobody")
    device.doorbell.recv()
    with waiting(driver.interrupt.recv, lambda: driver.stats().driver.consumer.sleeps):
        refused(everything_of_a_driver(driver))
        driver.doorbell.send(b"the other end is free")
        device.interrupt.send(b"enough")
    assert device.doorbell.recv() == b"the other end is free"
    assert driver.in_flight == 0


def test_a_driver_that_waits_for_an_answer_has_both_ends(pair):
    driver, device = pair(polling="never")
    frame = driver.doorbell.reserve(8)
    frame.abandon()
    with waiting(lambda: driver.call(b"x"), lambda: driver.stats().driver.consumer.sleeps):
        refused(everything_of_a_driver(driver))
        refused(everything_of_a_producer(driver.doorbell))
        device.take().complete(b"enough")
    assert driver.in_flight == 0


def test_nothing_of_a_device_is_for_a_second_thread(pair):
    driver, device = pair(polling="never")
    driver.submit(b"x")
    request = device.take()
    with waiting(lambda: device.take().complete(), lambda: driver.stats().device.consumer.sleeps):
        refused(
            {
                "take": lambda: device.take(),
                "take without waiting": lambda: device.take(timeout=0),
                "iteration": lambda: next(iter(device)),
                "complete": lambda: request.complete(b"x"),
                "fail": lambda: request.fail("x"),
                **everything_of_a_consumer(device.doorbell),
            }
        )
        assert request.payload == b"x"
        device.interrupt.send(b"the other end is free")
        driver.submit(b"enough")
    request.complete(b"answer")
    assert driver.in_flight == 2


def test_nothing_of_a_producer_is_for_a_second_thread(stream):
    producer, consumer = stream(ring_size=4096, polling="never")
    block = producer.coalesce()
    with block:
        producer.send(b"x" * 1900)
        producer.send(b"x" * 1900)
        with waiting(
            lambda: producer.send(b"y" * 1900), lambda: producer.stats().driver.producer.sleeps
        ):
            refused(everything_of_a_producer(producer))
            refused({"end": lambda: block.__exit__(None, None, None)})
            for _ in range(2):
                consumer.recv()
    assert consumer.recv() == b"y" * 1900
    with producer.coalesce():  # the block has ended
        pass


def test_the_end_of_a_block_is_not_for_a_second_thread(pair):
    driver, device = pair(polling="never")
    frame = driver.reserve(8)
    sleeps = lambda: driver.stats().driver.consumer.sleeps  # noqa: E731
    frame.__enter__()
    frame.payload[:] = b"in place"
    with waiting(lambda: driver.interrupt.recv(), sleeps):
        refused(
            {
                "end": lambda: frame.__exit__(None, None, None),
                "end by an exception": lambda: frame.__exit__(ValueError, ValueError(), None),
                "abandon": frame.abandon,
            }
        )
        assert frame.payload == b"in place"
        device.interrupt.send(b"enough")
    frame.__exit__(None, None, None)
    assert device.take().token == frame.token


@pytest.mark.parametrize("kind", ["write", "read"])
def test_nothing_of_a_record_end_is_for_a_second_thread(stream, kind):
    producer, consumer = stream("u8", ring_size=4096, polling="never", consume={"polling": "never"})
    if kind == "write":
        producer.write(range(512))
        with waiting(lambda: producer.write([1]), lambda: producer.stats().driver.producer.sleeps):
            refused(
                {
                    "write": lambda: producer.write([1]),
                    "reserve": lambda: producer.reserve(1),
                    "coalesce": lambda: producer.coalesce().__enter__(),
                }
            )
            consumer.read()
        assert consumer.read().tolist() == [1]
    else:
        with waiting(consumer.read, lambda: producer.stats().device.consumer.sleeps):
            refused(
                {
                    "read": consumer.read,
                    "borrow": consumer.borrow,
                    "iteration": lambda: next(iter(consumer)),
                    "fileno": consumer.fileno,
                    "moderation": lambda: setattr(consumer, "moderation", None),
                }
            )
            producer.write([1])


def test_two_threads_on_the_two_ends_of_each_side_disturb_nobody(pair):
    driver, device = pair(ring_size=8192)
    rounds = 60_000
    errors = []

    def produce(producer, scale):
        rng = np.random.default_rng(scale)
        sizes = rng.integers(8, 300, rounds)
        for i in range(rounds):
            if i % 1000 == 0:
                producer.send(i.to_bytes(8, "little").ljust(20_000))  # in pieces
            elif i % 7 == 0:
                with producer.reserve(8) as frame:
                    frame.payload[:] = i.to_bytes(8, "little")
            else:
                producer.send(i.to_bytes(8, "little").ljust(int(sizes[i])))

    def consume(consumer):
        expected = 0
        while expected < rounds:
            taken = consumer.recv_many() if expected % 3 else [bytes(consumer.borrow())]
            for message in taken:
                assert int.from_bytes(message[:8], "little") == expected
                expected += 1

    def run(function, *args):
        try:
            function(*args)
        except BaseException as error:
            errors.append(error)
            driver.close()

    threads = [
        threading.Thread(target=run, args=args)
        for args in (
            (produce, driver.doorbell, 1),
            (produce, device.interrupt, 2),
            (consume, driver.interrupt),
            (consume, device.doorbell),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# ---- signal handlers ----


def test_a_handler_that_uses_the_end_it_interrupted_gets_an_error_and_breaks_nothing(pair):
    driver, device = pair(polling="never")
    errors = []

    def handler(*_):
        for call in everything_of_a_driver(driver).values():
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))
        # The other side is another end.
        device.interrupt.send(b"unasked")
        device.take(timeout=0).complete(b"answer")

    before = signal.signal(signal.SIGUSR1, handler)
    sleeps = lambda: driver.stats().driver.consumer.sleeps  # noqa: E731
    begun = sleeps()

    def interrupt():
        wait_until(lambda: sleeps() > begun)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert driver.call(b"x") == b"answer"
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert len(errors) == len(everything_of_a_driver(driver))
    assert all("is in use" in error for error in errors)
    assert driver.in_flight == 0


def test_a_payload_whose_own_code_uses_the_end_gets_an_error_and_breaks_nothing(pair):
    driver, device = pair()
    errors = []

    class Tensor:
        def __dlpack__(self, **options):
            for call in {**everything_of_a_driver(driver)}.values():
                try:
                    call()
                except RuntimeError as error:
                    errors.append(str(error))
            return np.arange(8, dtype="u1").__dlpack__()

        def __dlpack_device__(self):
            return (1, 0)

    token = driver.submit(Tensor())
    assert len(errors) == len(everything_of_a_driver(driver))
    request = device.take()
    assert (request.token, bytes(request.payload)) == (token, bytes(range(8)))


# ---- forks ----


def test_a_child_forked_while_a_thread_is_inside_is_told_that_the_channel_is_not_its_own(start):
    peer = start("nothing")
    told = peer.run("""exec('''
import os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
with ringbell.listen(path) as listener:
    got = []
    thread = threading.Thread(target=lambda: got.append(listener.accept()))
    thread.start()
    driver = ringbell.connect(path, polling="never")
    thread.join()
device = got.pop()
inside = threading.Thread(target=driver.interrupt.recv)
inside.start()
frame, block = driver.doorbell.reserve(8), driver.doorbell.coalesce()
def payloads():  # the child is forked while a thread is inside of this, too
    drawing.set()
    drawn.wait()
    yield b"y"
drawing, drawn = threading.Event(), threading.Event()
answers = driver.map(payloads())
drawer = threading.Thread(target=lambda: next(answers, None))
drawer.start()
drawing.wait()
while driver.stats().driver.consumer.sleeps == 0:
    time.sleep(0.001)
reader, writer = os.pipe()
child = os.fork()
if not child:
    said = []
    for call in (
        driver.interrupt.recv, driver.interrupt.fileno, driver.reap, lambda: driver.call(b"x"),
        lambda: driver.submit(b"x"), lambda: driver.doorbell.send(b"x"), device.take,
        lambda: next(iter(driver.interrupt)), lambda: next(driver.map([b"x"])),
        lambda: next(answers), lambda: driver.doorbell.reserve(1), block.__enter__,
        lambda: setattr(driver.interrupt, "moderation", None), driver.interrupt.borrow,
        driver.interrupt.recv_many, lambda: device.interrupt.send(b"x"),
        lambda: setattr(device.doorbell, "moderation", None),
        lambda: frame.__exit__(None, None, None),
    ):
        try:
            call()
            said.append("nothing")
        except ringbell.ChannelClosed as error:
            said.append("forked" if "forked from" in str(error) else str(error))
        except BaseException as error:
            said.append(repr(error))
    driver.close()  # the parent's: nothing is left to do here
    device.close()
    os.write(writer, repr(set(said)).encode())
    os._exit(0)
os.waitpid(child, 0)
device.interrupt.send(b"the parent goes on")
inside.join()
frame.abandon()
drawn.set()
device.take().complete()
drawer.join()
''', globals())""")
    assert told == "None"
    assert peer.run("os.read(reader, 1000).decode()") == repr("{'forked'}")
    peer.run("driver.close(), device.close()")
