# SPDX-License-Identifier: MIT
"""What a call takes reaches the caller, wherever a signal handler raises, also in user code."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from storms import Alarms

import ringbell

END = sys.maxsize  # the end of any list; len() would be a call, where a handler may run
INTERRUPTS = 400  # for each loop and each kind of stream

# The other side sends until this one closes. If it sends one by one, the ring is nearly empty,
# because this side is faster. If it sends large batches, the ring is nearly full.
SENDS = {
    "nearly empty": """
import itertools
try:
    for number in itertools.count():
        producer.send(number.to_bytes(8, "little").ljust(options["size"]))
        time.sleep(0)
except ringbell.EndOfStream:
    pass
""",
    "nearly full": """
import itertools
try:
    for first in itertools.count(step=100):
        producer.send_many([n.to_bytes(8, "little").ljust(options["size"])
                            for n in range(first, first + 100)])
except ringbell.EndOfStream:
    pass
""",
}


# The loops that a user may write. Each keeps what it got in the next step; no handler runs before.
# They read numbers by subscription: a call would let a handler run before the number is kept.
def recv(consumer, got):
    while True:
        message = consumer.recv()
        got.append(message)


def recv_with_a_timeout(consumer, got):
    while True:
        try:
            message = consumer.recv(timeout=1e-5)
            got.append(message)
        except ringbell.RingEmpty:
            pass


def recv_at_once(consumer, got):
    while True:
        try:
            message = consumer.recv(timeout=0)
            got.append(message)
        except ringbell.RingEmpty:
            pass


def recv_many(consumer, got):
    while True:
        messages = consumer.recv_many(5)
        got += messages


def recv_many_with_a_timeout(consumer, got):
    while True:
        try:
            messages = consumer.recv_many(timeout=1e-5)
            got += messages
        except ringbell.RingEmpty:
            pass


def borrow(consumer, got):
    while True:
        view = consumer.borrow()
        got.append(view[0] | view[1] << 8 | view[2] << 16)


def borrow_with_a_timeout(consumer, got):
    while True:
        try:
            view = consumer.borrow(timeout=1e-5)
            got.append(view[0] | view[1] << 8 | view[2] << 16)
        except ringbell.RingEmpty:
            pass


def iterate(consumer, got):
    for view in consumer:
        got.append(view[0] | view[1] << 8 | view[2] << 16)


MESSAGES = (
    recv,
    recv_with_a_timeout,
    recv_at_once,
    recv_many,
    recv_many_with_a_timeout,
    borrow,
    borrow_with_a_timeout,
    iterate,
)


def number_of(got):
    return got if isinstance(got, int) else int.from_bytes(got[:3], "little")


@pytest.mark.parametrize("fill", SENDS)
@pytest.mark.parametrize("size", [8, 6000])  # whole, and in pieces
def test_no_message_is_lost_or_doubled_wherever_a_handler_raises(start, consume, size, fill):
    peer = start("producer", ring_size=8192)
    consumer = consume()
    peer.begin(SENDS[fill].replace('options["size"]', str(size)))
    got = []
    with Alarms() as alarms:
        for take in MESSAGES:
            alarms.interrupt(lambda take=take: take(consumer, got), INTERRUPTS)
            numbers = [number_of(one) for one in got]
            assert numbers == list(range(len(numbers))), take.__name__
    assert alarms.raised == INTERRUPTS * len(MESSAGES)
    consumer.close()
    peer.reply()


def read(consumer, got):
    while True:
        rows = consumer.read(50)
        got[END:] = rows


def read_with_a_timeout(consumer, got):
    while True:
        try:
            rows = consumer.read(timeout=1e-5)
            got[END:] = rows
        except ringbell.RingEmpty:
            pass


def borrow_rows(consumer, got):
    while True:
        rows = consumer.borrow(50)
        got[END:] = rows


def borrow_rows_with_a_timeout(consumer, got):
    while True:
        try:
            rows = consumer.borrow(50, timeout=1e-5)
            got[END:] = rows
        except ringbell.RingEmpty:
            pass


def iterate_rows(consumer, got):
    for rows in consumer:
        got[END:] = rows


RECORDS = (read, read_with_a_timeout, borrow_rows, borrow_rows_with_a_timeout, iterate_rows)


@pytest.mark.parametrize("batch", [1, 300])
def test_no_record_is_lost_or_doubled_wherever_a_handler_raises(start, consume, batch):
    peer = start("producer", dtype="'u8'", ring_size=4096)
    consumer = consume()
    peer.begin(f"""
import itertools, numpy
try:
    for first in itertools.count(step={batch}):
        producer.write(numpy.arange(first, first + {batch}, dtype="u8"))
except ringbell.EndOfStream:
    pass
""")
    got = []
    with Alarms() as alarms:
        for take in RECORDS:
            alarms.interrupt(lambda take=take: take(consumer, got), INTERRUPTS)
            assert np.array_equal(got, np.arange(len(got))), take.__name__
    consumer.close()
    peer.reply()


def take(device, requests):
    while True:
        complete_all(requests)
        request = device.take()
        requests.append(request)


def take_with_a_timeout(device, requests):
    while True:
        complete_all(requests)
        try:
            request = device.take(timeout=1e-5)
            requests.append(request)
        except ringbell.RingEmpty:
            pass


def iterate_requests(device, requests):
    complete_all(requests)
    for request in device:
        requests.append(request)
        complete_all(requests)


def complete_all(requests):
    """Complete the last two: nobody knows whether they were when the alarm came."""
    for request in requests[-2:]:
        try:
            request.complete(request.token.to_bytes(8, "little"))
        except RuntimeError as error:
            assert "answered before" in str(error)


@pytest.mark.parametrize("size", [8, 6000])
def test_no_request_is_lost_or_answered_twice_wherever_a_handler_raises(start, path, size):
    with ringbell.listen(path) as listener:
        peer = start("driver", wait=False, ring_size=8192)
        device = listener.accept()
    peer.reply()
    peer.begin(f"""
import itertools
answered = 0
try:
    for answer in driver.map((b"x" * {size} for _ in itertools.count()), depth=4):
        answered += 1
        assert int.from_bytes(answer, "little") == answered
except ringbell.EndOfStream:
    pass
""")
    requests = []
    with device:
        with Alarms() as alarms:
            for loop in (take, take_with_a_timeout, iterate_requests):
                alarms.interrupt(lambda loop=loop: loop(device, requests), INTERRUPTS)
        complete_all(requests)
    tokens = [request.token for request in requests]
    assert tokens == list(range(1, len(tokens) + 1))
    peer.reply()
    assert int(peer.run("answered")) == len(tokens)


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


# ---- blocks ----

BLOCKS = """
import sys, threading
import ringbell
from storms import Alarms

path, kind = sys.argv[1:]
with ringbell.listen(path) as listener:
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
    thread.start()
    driver = ringbell.connect(path, ring_size=4096)
    thread.join()
device = accepted.pop()

def consume():
    consumed = []
    thread = threading.Thread(target=lambda: consumed.append(ringbell.consume(path + "2")))
    thread.start()
    producer = ringbell.produce(path + "2", "u8", ring_size=4096)
    thread.join()
    return producer, consumed.pop()

rows, taken = consume()
begun = ended = 0

def frame_of_a_request():
    global begun, ended
    for _ in range(3):
        begun += 1
        with driver.reserve(100) as frame:
            frame.payload[:1] = b"x"
        ended += 1

def frame_of_a_message():
    for _ in range(3):
        with driver.doorbell.reserve(100) as frame:
            frame.length = 5

def frame_that_is_abandoned():
    for _ in range(10):
        driver.reserve(100).abandon()

def block_of_records():
    for _ in range(3):
        with rows.reserve(5) as block:
            block[:] = 7

def coalescing():
    for _ in range(3):
        with driver.doorbell.coalesce(max_entries=2):
            driver.doorbell.send(b"x")

once = globals()[kind]

def drain():
    "The end is usable at once: RuntimeError if it is stuck."
    driver.doorbell.send(b"the end", timeout=5)
    while device.doorbell.recv(timeout=5) != b"the end":
        pass
    rows.write([1], timeout=5)
    taken.read(timeout=5)
    with driver.doorbell.coalesce():
        pass

def run():
    once()
    while True:
        pass

with Alarms(1e-6, 20e-6) as alarms:
    for _ in range(6000):
        alarms.interrupt(run, 1)
        if kind == "frame_of_a_request":
            sent = 0
            while True:
                try:
                    request = device.take(timeout=0)
                except ringbell.RingEmpty:
                    break
                request.complete()
                sent += 1
            for _ in range(sent):
                driver.reap(timeout=5)
            assert ended <= sent <= begun, (ended, sent, begun)
            assert driver.in_flight == 0
            begun = ended = 0
        drain()
for end in (driver, device, rows, taken):
    end.close()
print("done")
"""


@pytest.mark.parametrize(
    "kind",
    [
        "frame_of_a_request",
        "frame_of_a_message",
        "frame_that_is_abandoned",
        "block_of_records",
        "coalescing",
    ],
)
def test_a_block_that_a_handler_interrupts_leaves_the_end_usable(path, kind):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, str(path), kind],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""  # no "Exception ignored" either
    assert done.stdout == "done\n"
    assert done.returncode == 0
