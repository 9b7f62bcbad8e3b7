# SPDX-License-Identifier: MIT
"""What a call takes reaches the caller, wherever a signal handler raises, also in user code."""

import sys

import numpy as np
import pytest
from storms import INTERRUPTS, Alarms

import ringbell

END = sys.maxsize  # the end of any list; len() would be a call, where a handler may run

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
