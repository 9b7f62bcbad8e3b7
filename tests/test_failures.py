# SPDX-License-Identifier: MIT
"""What a handler raises, and what an exception that leaves a `with` block tells the other side."""

import logging
import re
import signal
import subprocess
import sys

import pytest
from processes import PeerError, serving, wait_until

import ringbell
from ringbell.calls.failures import Failures


def fail_times(failures, function, times):
    texts = []
    for _ in range(times):
        try:
            function()
        except Exception as error:
            texts.append(failures.text_of(error))
    return texts


def one():
    raise ValueError("one")


def other():
    raise ValueError("other")


# ---- what the operator is told ----


def test_the_operator_sees_the_first_of_each_place_with_its_traceback_and_then_a_count(caplog):
    failures = Failures()
    assert fail_times(failures, one, 1) == ["ValueError: one"]
    assert len(caplog.records) == 1
    assert caplog.records[0].levelno == logging.WARNING
    assert "Traceback (most recent call last):" in caplog.text
    assert 'raise ValueError("one")' in caplog.text
    fail_times(failures, other, 1)
    assert 'raise ValueError("other")' in caplog.messages[1]
    fail_times(failures, one, 8)
    assert len(caplog.messages) == 2
    fail_times(failures, one, 10_000 - 9)
    counted = [re.search(r"raised ([\d,]+) times", text)[1] for text in caplog.messages[2:]]
    assert counted == ["10", "100", "1,000", "10,000"]
    assert all("line" in text and "ValueError: one" in text for text in caplog.messages[2:])


def test_code_that_is_made_again_and_again_does_not_fill_the_memory(caplog):
    failures = Failures()
    for i in range(300):
        names = {}
        exec(compile("def f(): 1 / 0", f"<made {i}>", "exec"), names)
        fail_times(failures, names["f"], 1)
    assert len(failures._counts) < 110
    assert len(caplog.records) < 110


def test_an_exception_without_a_text_is_told_as_well(caplog):
    class UnspeakableError(Exception):
        def __str__(self):
            raise ZeroDivisionError

    def speak():
        raise UnspeakableError

    texts = fail_times(Failures(), speak, 10)
    assert texts == ["UnspeakableError, which has no text"] * 10
    assert "Traceback" in caplog.messages[0]
    assert "which has no text" in caplog.messages[1]


def test_an_exception_whose_class_raises_is_told_as_well(caplog):
    class Unnamed(type):
        def __getattribute__(cls, name):
            if name == "__name__":
                raise ZeroDivisionError
            return super().__getattribute__(name)

    class OddError(Exception, metaclass=Unnamed):
        pass

    def odd():
        raise OddError

    texts = fail_times(Failures(), odd, 1)
    assert texts == ["an exception, which has no text"]
    assert "the handler raised" in caplog.text


def test_a_text_of_any_length_does_not_fill_the_log(caplog):
    def long():
        raise ValueError("x" * 1_000_000)

    texts = fail_times(Failures(), long, 10)
    assert [len(text) for text in texts] == [1_000_012] * 10
    assert all(len(text) < 20_000 for text in caplog.messages)
    assert "characters left out" in caplog.messages[1]


def boom(part):
    raise KeyError(len(part))


def raises_from_a_cause(part):
    try:
        boom(part)
    except KeyError as error:
        raise ValueError("a cause") from error


def raises_a_group(part):
    errors = []
    for _ in range(2):
        try:
            boom(part)
        except KeyError as error:
            errors.append(error)
    raise ExceptionGroup("a group", errors)


def raises_with_the_payload(part):
    raise ValueError(part)


def raises_a_circle(part):
    error = ValueError("a circle")
    error.itself, error.part = error, part
    raise error


@pytest.mark.parametrize(
    "raises", [raises_from_a_cause, raises_a_group, raises_with_the_payload, raises_a_circle]
)
def test_an_exception_that_keeps_the_payload_ends_no_device(pair, raises):
    driver, device = pair()
    tokens = [driver.submit(b"one"), driver.submit(b"two")]
    driver.close()
    calls = []

    def handler(payload):
        calls.append(len(payload))
        raises(payload[1:])

    with pytest.raises(ringbell.EndOfStream):
        while True:
            device._serve_ready(handler, Failures().text_of, 1, False)
    assert len(calls) == len(tokens)


SERVES = """
import logging, sys, ringbell
kept = []
class Keep(logging.Handler):
    def emit(self, record):
        kept.append(record)
        print("log:", record.levelname, record.getMessage(), flush=True)
logging.getLogger("ringbell").addHandler(Keep())
def handler(payload):
    part = payload[1:]  # which the traceback keeps
    raise ValueError(f"no {bytes(part)}")
with ringbell.listen(sys.argv[1]) as listener:
    print("ready", flush=True)
    ringbell.calls.serving.serve_on(listener, handler)
"""


def test_a_log_that_keeps_its_records_does_not_keep_the_payload_in_use(path):
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            with ringbell.connect(path) as driver:
                for _ in range(20):
                    with pytest.raises(ringbell.RequestFailed, match="ValueError: no b'ne'"):
                        driver.call(b"one")
        finally:
            process.kill()
        shown = process.stdout.read()
    assert shown.startswith("log: WARNING the handler raised, and the driver gets RequestFailed")
    assert shown.count("Traceback") == 1
    assert shown.count("raised 10 times; the last: ValueError: no b'ne'") == 1


def test_serve_on_the_command_line_shows_what_the_handler_raised(path, tmp_path):
    (tmp_path / "bad.py").write_text("def handler(payload):\n    raise ValueError('bad input')\n")
    with serving(path, "bad:handler", tmp_path) as process:
        with ringbell.connect(path) as driver:
            for _ in range(10):
                with pytest.raises(ringbell.RequestFailed, match="bad input"):
                    driver.call(b"x")
        process.send_signal(signal.SIGINT)
        shown = process.stderr.read()
    assert process.returncode == 128 + signal.SIGINT
    assert shown.count("raise ValueError('bad input')") == 1
    assert "raised 10 times; the last: ValueError: bad input" in shown
    assert "KeyboardInterrupt" not in shown


# ---- a handler that ends its device ----

DEVICES = """
import ringbell, sys, os, signal
def handler(payload):
    word = bytes(payload)
    if word == b"exit":
        sys.exit(7)
    if word == b"interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    if word == b"own":
        raise BaseException("own")
    if word == b"keep":
        kept.append(payload[1:])
    return payload
kept = []
try:
    with ringbell.listen(sys.argv[1]) as listener:
        print("ready", flush=True)
        ringbell.calls.serving.serve_on(listener, handler)
except BaseException as error:
    print(type(error).__name__, flush=True)
"""


@pytest.fixture
def device(path):
    with subprocess.Popen(
        [sys.executable, "-c", DEVICES, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (b"exit", "SystemExit"),
        (b"interrupt", "KeyboardInterrupt"),
        (b"own", "BaseException"),
        (b"keep", "BufferError"),
    ],
)
def test_a_handler_that_ends_the_device_is_no_polite_end_for_requests_in_flight(
    device, path, word, error
):
    with ringbell.connect(path) as driver:
        driver.submit(b"before")
        driver.submit(word)
        assert driver.reap().payload == b"before"
        with pytest.raises(ringbell.PeerLost, match="or gave it up") as caught:
            driver.reap()
        assert caught.value.__notes__ == ["requests in flight that were not answered: 1"]
    assert device.stdout.readline() == f"{error}\n"
    assert not path.exists()


def test_an_idle_driver_of_a_device_that_is_interrupted_is_told_of_its_end(device, path):
    with ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"x"
        wait_until(lambda: driver.stats().device.consumer.sleeps)
        device.send_signal(signal.SIGINT)
        with pytest.raises(ringbell.EndOfStream):
            driver.interrupt.recv()
    assert device.stdout.readline() == "KeyboardInterrupt\n"


def test_a_request_of_which_only_pieces_have_come_is_in_flight(device, path):
    with ringbell.connect(path, ring_size=4096) as driver:
        with pytest.raises(ringbell.RingFull):
            driver.submit(b"x" * 1_000_000, timeout=0)
        wait_until(lambda: driver.stats().dri == driver.stats().dwi)
        device.send_signal(signal.SIGINT)
        with pytest.raises(ringbell.PeerLost):
            driver.interrupt.recv()


# ---- an exception that leaves a with block ----


def test_an_exception_that_leaves_the_block_of_a_device_is_no_polite_end(pair):
    driver, device = pair()
    driver.submit(b"x")
    with pytest.raises(ZeroDivisionError), device:
        device.take().complete(b"y")
        raise ZeroDivisionError
    assert driver.reap().payload == b"y"
    with pytest.raises(ringbell.PeerLost, match="or gave it up"):
        driver.interrupt.recv()
    with pytest.raises(ringbell.ChannelClosed):
        device.take()


def test_an_exception_that_leaves_the_block_of_a_driver_is_no_polite_end(pair):
    driver, device = pair()
    with pytest.raises(KeyboardInterrupt), driver:
        driver.submit(b"x")
        raise KeyboardInterrupt
    assert bytes(device.take().payload) == b"x"
    with pytest.raises(ringbell.PeerLost, match="or gave it up"):
        device.take()


def test_blocks_that_end_by_themselves_are_polite_ends(pair):
    driver, device = pair()
    with driver:
        pass
    with pytest.raises(ringbell.EndOfStream):
        device.take()
    driver, device = pair()
    with device:
        pass
    with pytest.raises(ringbell.EndOfStream):
        driver.interrupt.recv()


def test_a_server_says_that_a_driver_gave_up_and_serves_the_next(start, path, connect):
    start("serve", handler="upper")
    with pytest.raises(ZeroDivisionError), ringbell.connect(path) as driver:
        assert driver.call(b"x") == b"X"
        raise ZeroDivisionError
    assert connect().call(b"y") == b"Y"


def test_a_device_that_fails_in_another_process_is_lost(start, connect):
    device = start("device")
    driver = connect()
    device.begin("with device: 1 / 0")
    with pytest.raises(PeerError, match="ZeroDivisionError"):
        device.reply()
    with pytest.raises(ringbell.PeerLost):
        driver.call(b"x")
