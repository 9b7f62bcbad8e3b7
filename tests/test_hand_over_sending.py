# SPDX-License-Identifier: MIT
"""What is sent arrives once, and each answer reaches its caller, wherever a handler raises."""

import itertools

import numpy as np
import pytest
from storms import INTERRUPTS, Alarms

import ringbell

# Long, and of a kind of which others run each time; `make verify` runs it.
pytestmark = pytest.mark.variant

# ---- a driver ----

ANSWERS = """
taken = []
try:
    for request in device:
        taken.append(request.token)
        payload = bytes(request.payload)
        request.complete(payload[:8] + request.token.to_bytes(8, "little") + payload[8:])
except ringbell.EndOfStream:
    pass
"""


def answer_of(number, size):
    return number.to_bytes(8, "little").ljust(size)


@pytest.mark.parametrize("size", [8, 6000])
def test_reap_gives_each_completion_once_wherever_a_handler_raises(start, connect, size):
    device = start("device")
    driver = connect(ring_size=8192)
    device.begin(ANSWERS)
    numbers = itertools.count()
    submitted, completions = [], []

    def submit():
        token = driver.submit(answer_of(next(numbers), size))
        submitted.append(token)

    def loop():
        while True:
            for _ in range(3):
                submit()
            while driver.in_flight > 1:
                completion = driver.reap()
                completions.append(completion)

    def loop_with_a_timeout():
        while True:
            submit()
            try:
                completion = driver.reap(timeout=1e-5)
                completions.append(completion)
            except ringbell.RingEmpty:
                pass

    with Alarms() as alarms:
        alarms.interrupt(loop, 3 * INTERRUPTS)
        alarms.interrupt(loop_with_a_timeout, 3 * INTERRUPTS)
    while driver.in_flight:
        completions.append(driver.reap())
    driver.close()
    device.reply()
    reaped = [completion.token for completion in completions]
    # Each request comes out once, also one whose token submit sent but did not return.
    assert len(set(reaped)) == len(reaped)
    assert repr(sorted(reaped)) == device.run("taken")
    assert set(submitted) <= set(reaped)
    for completion in completions:
        assert completion.payload[8:16] == completion.token.to_bytes(8, "little")


@pytest.mark.parametrize("size", [8, 6000])
def test_no_answer_reaches_another_caller_wherever_a_handler_raises(start, connect, size):
    device = start("device")
    driver = connect(ring_size=8192)
    device.begin(ANSWERS)
    numbers = itertools.count()
    right = 0

    def call():
        nonlocal right
        while True:
            number = next(numbers)
            answer = driver.call(answer_of(number, size))
            assert answer[:8] == number.to_bytes(8, "little")
            right += 1

    def call_with_a_timeout():
        nonlocal right
        while True:
            number = next(numbers)
            try:
                answer = driver.call(answer_of(number, size), timeout=1e-5)
                assert answer[:8] == number.to_bytes(8, "little")
                right += 1
            except (ringbell.RingEmpty, ringbell.RingFull):
                pass

    def map_():
        nonlocal right
        while True:
            sent = []
            payloads = (sent.append(n) or answer_of(n, size) for n in numbers)
            for i, answer in enumerate(driver.map(itertools.islice(payloads, 50), depth=4)):
                assert answer[:8] == sent[i].to_bytes(8, "little")
                right += 1

    with Alarms() as alarms:
        for loop in (call, call_with_a_timeout, map_):
            # On a busy machine hardly any answer may come between two alarms. So after every few
            # alarms, one call runs without them.
            for _ in range(INTERRUPTS // 2):
                alarms.interrupt(loop, 4)
                assert driver.call(answer_of(77, size))[:8] == (77).to_bytes(8, "little")
                right += 1
            assert driver.in_flight == 0
            with pytest.raises(ringbell.RingEmpty, match="no request is in flight"):
                driver.reap()
    assert right > INTERRUPTS


# ---- a producer ----

RECEIVES = """
got = []
try:
    while True:
        got.append(int.from_bytes(consumer.recv()[:8], "little"))
except ringbell.EndOfStream:
    pass
"""


@pytest.mark.parametrize("size", [8, 6000])
def test_what_was_sent_arrives_once_wherever_a_handler_raises(start, produce, size):
    peer = start("consumer")
    producer = produce(ring_size=8192)
    peer.begin(RECEIVES)
    numbers = itertools.count()
    sent = []

    def send():
        while True:
            number = next(numbers)
            producer.send(answer_of(number, size))
            sent.append(number)

    def send_with_a_timeout():
        while True:
            number = next(numbers)
            try:
                producer.send(answer_of(number, size), timeout=1e-5)
                sent.append(number)
            except ringbell.RingFull:
                pass

    def send_many():
        while True:
            first = next(numbers)
            many = [first] + [next(numbers) for _ in range(9)]
            count = producer.send_many([answer_of(number, size) for number in many])
            assert count == 10
            sent.extend(many)

    def reserve():
        while True:
            number = next(numbers)
            with producer.reserve(3000) as frame:
                frame.payload[:8] = number.to_bytes(8, "little")
                frame.length = 8
            sent.append(number)

    with Alarms() as alarms:
        for loop in (send, send_with_a_timeout, send_many, reserve):
            alarms.interrupt(loop, INTERRUPTS)
            number = next(numbers)
            producer.send(answer_of(number, size))  # usable at once
            sent.append(number)
    producer.close()
    peer.reply()
    got = [int(number) for number in peer.run("got")[1:-1].split(", ")]
    assert all(one < other for one, other in itertools.pairwise(got))
    assert set(sent) <= set(got)


def test_what_was_written_arrives_once_wherever_a_handler_raises(start, produce):
    peer = start("consumer")
    producer = produce(dtype="u8", ring_size=4096)
    peer.begin("""
got = []
for rows in consumer:
    got += rows.tolist()
""")
    numbers = itertools.count(step=1000)
    written = []

    def write():
        while True:
            first = next(numbers)
            assert producer.write(np.arange(first, first + 700, dtype="u8")) == 700
            written.append(first)

    def reserve():
        while True:
            first = next(numbers)
            with producer.reserve(20) as rows:
                rows[:] = np.arange(first, first + 20)
            written.append(first)

    with Alarms() as alarms:
        for loop in (write, reserve):
            alarms.interrupt(loop, 2 * INTERRUPTS)
            first = next(numbers)
            assert producer.write(np.arange(first, first + 20, dtype="u8")) == 20
            written.append(first)
    producer.close()
    peer.reply()
    got = [int(number) for number in peer.run("got")[1:-1].split(", ")]
    assert all(one < other for one, other in itertools.pairwise(got))
    assert {first + i for first in written for i in range(20)} <= set(got)
