# SPDX-License-Identifier: MIT
"""Messages that are longer than this side accepts, and lengths that the other side only claims."""

import contextlib
import hashlib
import logging
import mmap
import re
import signal
import threading
from pathlib import Path

import pytest
from processes import PeerError, wait_until

import ringbell
from ringbell.channel.channel import Channel

RING = 4096
LIMIT = 1000  # less than half of the ring, so a message beyond it may still come in one piece
KINDS = {"whole": LIMIT + 1, "in pieces": 5 * RING}
SOME_TIB = 1 << 42


@pytest.fixture
def endless():
    """A buffer that is larger than any memory: a hole in a file that has no name."""
    with mmap.mmap(-1, SOME_TIB, mmap.MAP_PRIVATE | 0x4000, mmap.PROT_READ) as pages:
        yield pages


def too_long(what, size):
    return rf"^{what} of {size} bytes is too long: .* at most {LIMIT} \(its max_message\)"


# ---- requests ----


@pytest.mark.parametrize("size", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("how", ["call", "map", "reap", "reserve"])
def test_a_request_that_is_too_long_fails_and_the_device_goes_on(start, connect, how, size):
    if how == "reserve" and size > RING:
        pytest.skip("reserve has no pieces")
    start("serve", handler="upper", max_message=LIMIT)
    driver = connect(ring_size=RING)
    assert driver.call(b"a" * LIMIT) == b"A" * LIMIT
    with pytest.raises(ringbell.RequestFailed, match=too_long("a request", size)):
        if how == "call":
            driver.call(b"x" * size)
        elif how == "map":
            list(driver.map([b"a", b"x" * size, b"b"], depth=2))
        else:
            if how == "reap":
                token = driver.submit(b"x" * size)
            else:
                with driver.reserve(size) as frame:
                    token = frame.token
            completion = driver.reap()
            assert (completion.token, completion.ok) == (token, False)
            completion.result()
    wait_until(lambda: driver.call(b"x") == b"X")
    assert driver.in_flight == 0


def test_a_request_that_no_memory_holds_fails_at_once_and_the_service_goes_on(
    start, connect, endless
):
    start("serve", handler="upper")
    driver = connect()
    with pytest.raises(ringbell.RequestFailed, match=f"{SOME_TIB} bytes .* memory available"):
        driver.call(endless)
    token = driver.submit(endless)
    assert driver.in_flight == 1
    completion = driver.reap()
    assert (completion.token, completion.ok) == (token, False)
    answers = driver.map([b"a", endless, b"b"], depth=3)
    assert next(answers) == b"A"
    with pytest.raises(ringbell.RequestFailed):
        next(answers)
    assert driver.call(b"x") == b"X"
    driver.close()
    assert connect().call(b"x") == b"X"


def test_a_device_that_takes_by_itself_never_sees_it_and_its_log_does(pair, caplog):
    driver, device = pair(listen={"max_message": LIMIT}, ring_size=RING)
    driver.submit(b"x" * (LIMIT + 1))
    with caplog.at_level(logging.WARNING, "ringbell"), pytest.raises(ringbell.RingEmpty):
        device.take(timeout=0)
    assert f"a request of {LIMIT + 1} bytes is too long" in caplog.text
    assert not driver.reap().ok
    driver.doorbell.send(b"y" * (LIMIT + 1))  # a message without a token gets no answer
    driver.submit(b"z")
    assert bytes(device.take().payload) == b"z"
    assert caplog.text.count("is too long") == 2
    with pytest.raises(ringbell.RingEmpty):
        driver.interrupt.recv(timeout=0)


def test_a_refusal_that_finds_no_room_is_sent_by_a_later_call(pair):
    driver, device = pair(listen={"max_message": 10}, ring_size=RING)
    for _ in range(RING // 64):
        device.interrupt.send(b"full")
    token = driver.submit(b"x" * 11)
    with pytest.raises(ringbell.RingEmpty, match="except for a request that is too long"):
        device.take(timeout=0)
    with pytest.raises(ringbell.RingEmpty):
        driver.reap(timeout=0)  # drops what the driver did not ask for
    with pytest.raises(ringbell.RingEmpty, match="within the timeout$"):
        device.take(timeout=0)
    completion = driver.reap(timeout=0)
    assert (completion.token, completion.ok) == (token, False)


def test_a_server_that_could_refuse_only_later_waits_for_requests_again(pair):
    driver, device = pair(listen={"max_message": 10}, ring_size=RING)

    def serve():
        return device._serve_ready(bytes, str, 1, False)

    with ringbell.Waiter([device]) as waiter:
        for _ in range(RING // 64):
            device.interrupt.send(b"full")
        token = driver.submit(b"x" * 11)
        assert waiter.wait(0) == [device]
        assert serve() == 0, "there is no room for the refusal"
        assert waiter.wait(0) == []
        with pytest.raises(ringbell.RingEmpty):
            driver.reap(timeout=0)  # makes room
        assert waiter.wait(0) == [device]
        assert serve() == 0
        assert driver.reap(timeout=0).token == token
        assert waiter.wait(0) == [], "there is nothing to do"
        driver.submit(b"y")
        assert waiter.wait(0) == [device]
        assert serve() == 1


def test_a_refusal_for_a_driver_that_has_gone_is_dropped(pair):
    driver, device = pair(listen={"max_message": 10}, ring_size=RING)
    driver.submit(b"x" * 11)
    driver.submit(b"y")
    driver.close()
    assert bytes(device.take().payload) == b"y"
    with pytest.raises(ringbell.EndOfStream):
        device.take()


# ---- answers ----


@pytest.mark.parametrize("size", KINDS.values(), ids=KINDS)
def test_an_answer_that_is_too_long_fails_its_request_alone(start, connect, size):
    device = start("device")
    driver = connect(ring_size=RING, max_message=LIMIT)
    device.begin(f"""
for request in device:
    request.complete(b"x" * ({size} if request.payload == b"long" else 1))
""")
    refused = too_long("an answer", size)
    with pytest.raises(ringbell.RequestFailed, match=refused):
        driver.call(b"long")
    assert driver.call(b"short") == b"x"
    token = driver.submit(b"long")
    completion = driver.reap()
    assert (completion.token, completion.ok) == (token, False)
    answers = driver.map([b"short", b"long", b"short"], depth=3)
    assert next(answers) == b"x"
    with pytest.raises(ringbell.RequestFailed, match=refused):
        next(answers)
    assert driver.call(b"short") == b"x"


def test_a_failure_is_text_and_never_too_long(pair):
    driver, device = pair(max_message=5)
    driver.submit(b"x")
    device.take().fail("longer than five bytes")
    with pytest.raises(ringbell.RequestFailed, match="longer than five bytes"):
        driver.reap().result()


# ---- streams ----

TAKES = {
    "recv": lambda end: end.recv(timeout=0),
    "recv_many": lambda end: b"".join(end.recv_many(timeout=0)),
    "borrow": lambda end: bytes(end.borrow(timeout=0)),
    "hold": lambda end: bytes(end.hold(timeout=0)),
    "loop": lambda end: bytes(next(iter(end))),
}


@pytest.mark.parametrize("size", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("take", TAKES)
def test_a_message_that_is_too_long_is_told_of_once_and_skipped(start, consume, take, size):
    producer = start("producer", ring_size=RING)
    consumer = consume(max_message=LIMIT)
    producer.begin(f"[producer.send(m) for m in (b'a', b'x' * {size}, b'b')] and None")
    got, errors = [], []
    while b"b" not in got:
        try:
            got.append(TAKES[take](consumer))
        except ringbell.MessageTooLong as error:
            errors.append(str(error))
        except ringbell.RingEmpty:
            pass
    assert got == [b"a", b"b"]
    assert len(errors) == 1
    assert f"a message of {size} bytes is too long" in errors[0]
    producer.reply()


def test_what_is_given_up_half_way_is_forgotten(stream):
    producer, consumer = stream(ring_size=RING, consume={"max_message": LIMIT})
    for _ in range(2):
        with pytest.raises(ringbell.RingFull):
            producer.send(b"x" * 5 * RING, timeout=0)
        with pytest.raises(ringbell.MessageTooLong):
            consumer.recv(timeout=0)
        with pytest.raises(ringbell.RingEmpty):
            consumer.recv(timeout=0)
    producer.send(b"y")
    assert consumer.recv() == b"y"


def test_the_error_is_a_memory_error_too():
    assert issubclass(ringbell.MessageTooLong, MemoryError)


@pytest.mark.parametrize("wrong", [0, -1, 2**63])
def test_a_bad_max_message_is_a_value_error(path, wrong):
    for use in (ringbell.connect, ringbell.listen, ringbell.consume):
        with pytest.raises(ValueError, match="max_message is at least 1 byte"):
            use(path, max_message=wrong)


# ---- memory ----


def test_no_memory_is_made_on_a_claim(start, connect, endless):
    device = start("device")
    driver = connect()
    with pytest.raises(ringbell.RingFull):
        driver.submit(memoryview(endless)[: 4 << 30], timeout=0)
    device.run("import tracemalloc; tracemalloc.start()")
    with pytest.raises(PeerError, match="RingEmpty"):
        device.run("device.take(timeout=0)")
    assert int(device.run("device._channel.memory_left()")) > 4 << 30, "it is not refused for that"
    assert int(device.run("tracemalloc.get_traced_memory()[1]")) < 32 << 20


def test_a_message_whose_memory_grows_is_whole(start, connect):
    device = start("device")
    driver = connect(ring_size=1 << 16)
    device.begin("""
import contextlib
import hashlib
for request in device:
    request.complete(hashlib.sha256(request.payload).digest())
""")
    sent = bytes(range(256)) * (20 << 12)  # 20 MiB: its memory is made in two steps
    assert driver.call(sent) == hashlib.sha256(sent).digest()


def test_memory_that_runs_out_fails_that_request_alone(start, connect):
    server = start("nothing")
    server.run("listener = ringbell.listen(path)")
    server.begin("""
import resource
from ringbell.channel.channel import Channel
Channel.memory_left = lambda self: 1 << 40  # as if it were there
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (100 << 20),) * 2)
ringbell.calls.serving.serve_on(listener, lambda payload: b"ok")
""")
    driver = connect()
    with pytest.raises(ringbell.RequestFailed, match="has no memory for it"):
        driver.call(memoryview(bytes(300 << 20)))
    assert driver.call(b"x") == b"ok"


def test_whoever_sets_a_limit_is_bound_by_that_alone(start, consume, monkeypatch):
    monkeypatch.setattr(Channel, "memory_left", lambda _: 1000)
    size = 17 << 20
    for limit in (None, size):
        producer = start("producer")
        consumer = consume(max_message=limit)
        producer.begin(f"producer.send(bytes({size}))")
        if limit:
            assert consumer.recv() == bytes(size)
        else:
            with pytest.raises(ringbell.MessageTooLong, match="has 1000 bytes of memory available"):
                consumer.recv()
        consumer.close()


# ---- and while pieces go out ----


def test_a_reader_that_keeps_up_does_not_keep_a_sender_beyond_its_timeout(start, connect, endless):
    start("serve", handler="upper", max_message=1 << 62)
    driver = connect()
    with pytest.raises(ringbell.RingFull):
        driver.call(memoryview(endless)[: 64 << 30], timeout=0.05)
    assert driver.call(b"x") == b"X"


def test_ctrl_c_ends_the_sending_of_a_message_between_its_pieces(start, connect, endless):
    start("device", max_message=1 << 62).begin("device.doorbell.recv()")
    sender = connect()

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    try:
        thread = threading.Thread(
            target=lambda: (
                wait_until(lambda: sender.stats().dwi > 1 << 12),
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1),
            )
        )
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            sender.doorbell.send(memoryview(endless)[: 64 << 30])
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_recv_many_goes_on_with_a_message_of_which_a_part_has_come(start, consume):
    producer = start("producer", ring_size=RING)
    consumer = consume()
    producer.begin(f"[producer.send(m) for m in (b'x' * {5 * RING}, b'b')] and None")
    got = []
    while len(got) < 2:
        with contextlib.suppress(ringbell.RingEmpty):
            got += consumer.recv_many(timeout=0)
    assert got == [b"x" * 5 * RING, b"b"]


def flags_of_the_page(address):
    """Give the flags that the kernel keeps for the memory there."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    inside = False
    for line in lines:
        if found := re.match(r"(\w+)-(\w+) ", line):
            inside = int(found[1], 16) <= address < int(found[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    return []


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without large pages"
)
@pytest.mark.parametrize("options", [{}, {"ring_size": 1 << 26}], ids=["in pieces", "whole"])
def test_the_kernel_may_use_large_pages_for_a_long_message(start, consume, options):
    start("producer", **options).begin(f"producer.send(bytes({20 << 20}))")
    consumer = consume()
    message = consumer.recv()
    assert len(message) == 20 << 20
    assert "hg" in flags_of_the_page(id(message) + (10 << 20))
