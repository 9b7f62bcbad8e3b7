# SPDX-License-Identifier: MIT
"""The command line on a terminal, and on what is none."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from processes import RINGBELL, wait_until

import ringbell


def without_waiting(messages):
    """Leave out the first line if it says for whom the command waits."""
    return re.sub(rb"^ringbell: waiting for .*\r?\n", b"", messages)


class Terminal:
    """A terminal; `text` is all that was written to it, once it is closed."""

    def __init__(self, columns=80):
        self.near, self.far = pty.openpty()
        fcntl.ioctl(self.far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.parts, self.text = [], None
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while True:
            try:
                part = os.read(self.near, 4096)
            except OSError:  # how the end of a terminal reads
                return
            self.parts.append(part)

    def close(self):
        if self.text is not None:
            return
        os.close(self.far)
        self.reader.join()
        os.close(self.near)
        self.text = without_waiting(b"".join(self.parts)).decode()


@pytest.fixture
def terminal():
    """Make terminals, and close them whatever happens."""
    with ExitStack() as guard:

        def make(columns=80):
            made = Terminal(columns)
            guard.callback(made.close)
            return made

        yield make


@pytest.fixture
def begin():
    """Start the command; what still runs at the end is ended."""
    with ExitStack() as guard:

        def start(*arguments, **options):
            environment = os.environ | {"TERM": "xterm"}
            process = subprocess.Popen(
                [*RINGBELL, *map(str, arguments)], env=environment, **options
            )
            guard.callback(process.wait)
            guard.callback(process.kill)
            return process

        yield start


@pytest.fixture
def exchange(path):
    """Run `ringbell consume`; give its exit code, and what it wrote to its terminal."""

    def consume_here(content, which, *, path=path, columns=80, dtype=None, consume=(), **settings):
        terminal = Terminal(columns)
        environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
        environment |= {"TERM": "xterm-256color"} | settings
        producer = threading.Thread(target=produced, args=(path, content, dtype))
        producer.start()
        consumer = subprocess.run(
            [*RINGBELL, "consume", str(path), *consume],
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, which: terminal.far},
        )
        producer.join()
        terminal.close()
        return consumer, terminal.text

    return consume_here


def produced(path, content, dtype=None):
    """Send it, whether the consumer takes it or not."""
    with (
        suppress(ringbell.EndOfStream, ringbell.PeerLost),
        ringbell.produce(path, dtype, timeout=50) as stream,
    ):
        if dtype is None:
            for begin in range(0, len(content), 1 << 16):
                stream.send(content[begin : begin + (1 << 16)])
        else:
            stream.write(np.frombuffer(content, dtype))


def test_a_bar_without_a_total_shows_bytes_and_rate_in_one_line(exchange):
    consumer, text = exchange(bytes(3_000_000), "stderr")
    assert consumer.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    shown = [part for part in re.split(r"[\r\n]+", plain) if "from" in part]
    assert re.search(r"3\.0 MB +[\d.]+ [kMG]?B/s$", shown[-1].rstrip())
    assert "\u2501" not in text
    assert max(map(len, shown)) < 80


@pytest.mark.parametrize(("columns", "most"), [(80, 30), (40, 10)])
def test_a_long_name_leaves_room_for_the_figures(exchange, path, columns, most):
    long = path.with_name(f"{'x' * 40}\x1b[31m\nend.sock")
    consumer, text = exchange(bytes(3_000_000), "stderr", path=long, columns=columns)
    assert consumer.returncode == 0
    assert "\x1b[31m\n" not in text
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    shown = [part for part in re.split(r"[\r\n]+", plain) if "from" in part]
    escaped = f"{long}".replace("\x1b", r"\x1b").replace("\n", r"\n")
    assert shown[-1].startswith(f"from ...{escaped[3 - most :]} ")
    assert "3.0 MB" in shown[-1]
    assert max(map(len, shown)) <= columns


def test_no_color_means_none(exchange):
    _, text = exchange(bytes(3_000_000), "stderr", NO_COLOR="1")
    assert "3.0 MB" in text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9](;[0-9;]*)?m", text)


def test_a_dumb_terminal_sees_no_bar(exchange):
    consumer, text = exchange(bytes(3_000_000), "stderr", TERM="dumb")
    assert (consumer.returncode, text) == (0, "")


def test_a_bar_tells_of_few_bytes_too(path, terminal, begin):
    screen = terminal()
    consumer = begin("consume", path, os.devnull, stderr=screen.far)
    with ringbell.produce(path, timeout=50) as stream:
        while not re.search(rb"[1-9]\d* bytes", b"".join(screen.parts)):
            stream.send(b"x")
            time.sleep(0.01)
    assert consumer.wait() == 0


def test_no_bar_stands_between_lines_that_somebody_reads_or_types(path, terminal, begin):
    typing, reading = terminal(), terminal()
    producer = begin("produce", path, stdin=typing.far, stderr=typing.far)
    wait_until(lambda: re.search(rb"waiting for .*\n", b"".join(typing.parts)))
    consumer = begin("consume", path, stdout=reading.far, stderr=reading.far)
    for line in (b"one\n", b"two\n"):
        os.write(typing.near, line)
        wait_until(lambda line=line: line.strip() in b"".join(reading.parts))
    os.write(typing.near, b"\x04")  # Ctrl-D
    assert producer.wait() == consumer.wait() == 0
    for screen in (typing, reading):
        screen.close()
        assert screen.text.split() == ["one", "two"]


def test_text_may_be_seen_on_a_terminal(exchange):
    consumer, text = exchange(b"one\ntwo\n", "stdout")
    assert (consumer.returncode, text.split()) == (0, ["one", "two"])


@pytest.mark.parametrize("dtype", [None, "f8"], ids=["bytes", "records"])
def test_what_is_binary_is_not_written_to_a_terminal(exchange, dtype):
    consumer, text = exchange(np.arange(8.0).tobytes(), "stdout", dtype=dtype)
    assert (consumer.returncode, text) == (2, "")
    assert re.fullmatch(
        rb"ringbell: .* go to a terminal; name a FILE, or - to .*\n",
        without_waiting(consumer.stderr),
    )


def test_what_is_binary_is_written_to_a_terminal_on_demand(exchange):
    consumer, text = exchange(b"\0\1\2", "stdout", consume=["-"])
    assert (consumer.returncode, text) == (0, "\0\1\2")


def test_a_full_output_is_named(path):
    producer = threading.Thread(target=produced, args=(path, b"some"))
    producer.start()
    with open("/dev/full", "wb") as full:
        consumer = subprocess.run(
            [*RINGBELL, "consume", str(path)], stdout=full, stderr=subprocess.PIPE, check=False
        )
    producer.join()
    assert (consumer.returncode, without_waiting(consumer.stderr)) == (
        2,
        b"ringbell: standard output: No space left on device\n",
    )


def test_an_input_that_cannot_be_read_is_named(path):
    # This file is open for writing only.
    with (
        open(os.devnull, "wb") as unreadable,
        subprocess.Popen(
            [*RINGBELL, "produce", str(path)], stdin=unreadable, stderr=subprocess.PIPE
        ) as producer,
    ):
        with pytest.raises(ringbell.PeerLost), ringbell.consume(path, timeout=50) as stream:
            stream.recv()
        _, messages = producer.communicate()
    assert (producer.returncode, without_waiting(messages)) == (
        2,
        b"ringbell: standard input: Bad file descriptor\n",
    )
