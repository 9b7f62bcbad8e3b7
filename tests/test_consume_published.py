# SPDX-License-Identifier: MIT
"""`ringbell produce --readers` and `ringbell consume --subscribe`, as a shell sees them."""

import re
import signal
import subprocess
from contextlib import ExitStack

import numpy as np
import pytest
from commands import run_here
from processes import RINGBELL, state_of, wait_until, wait_until_listening

import ringbell


@pytest.fixture
def begin():
    """Start the command; what still runs at the end is ended."""
    with ExitStack() as guard:

        def start(*arguments, **options):
            process = subprocess.Popen(
                [*RINGBELL, *map(str, arguments)], stderr=subprocess.PIPE, **options
            )
            guard.enter_context(process)
            guard.callback(process.kill)
            return process

        yield start


def subscribing(begin, publisher, path, *arguments, **options):
    """Start `ringbell consume --subscribe`, once the publisher knows it."""
    there = len(publisher.readers)
    process = begin("consume", "--subscribe", path, *arguments, **options)
    wait_until(lambda: len(publisher.readers) > there)
    return process


def ended(process, code=0):
    """Give what it said on stderr, which is no traceback."""
    _, messages = process.communicate()
    assert process.returncode == code, messages
    assert b"Traceback" not in messages
    return messages.decode()


def size(file):
    return file.stat().st_size if file.exists() else 0


# ---- produce --readers ----


def test_each_of_several_consumers_gets_all_that_is_sent(begin, path, tmp_path):
    sent = b"".join(b"%d\n" % i for i in range(200_000))
    (tmp_path / "sent").write_bytes(sent)
    copies = [tmp_path / f"copy{i}" for i in range(3)]
    early = [begin("consume", path, "--subscribe", copy) for copy in copies[:2]]
    producer = begin("produce", path, tmp_path / "sent", "--readers", 3, "--ring-size", "64K")
    wait_until_listening(path)
    late = begin("consume", path, "--subscribe", copies[2], "--stats")
    assert "waiting for 3 readers" in ended(producer)
    for process in early:
        ended(process)
    assert f"{len(sent):,} bytes in" in ended(late)
    assert [copy.read_bytes() == sent for copy in copies] == [True] * 3


def test_a_killed_consumer_holds_nobody_back(begin, path, tmp_path):
    killed = begin("consume", path, "--subscribe", tmp_path / "killed")
    other = begin("consume", path, "--subscribe", tmp_path / "other")
    producer = begin("produce", path, "--readers", 2, "--ring-size", "4K", stdin=subprocess.PIPE)
    producer.stdin.write(b"first ")
    producer.stdin.flush()
    wait_until(lambda: size(tmp_path / "killed") == size(tmp_path / "other") == 6)
    killed.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(killed.pid) == "T")
    producer.stdin.write(bytes(20_000))  # the ring is full
    producer.stdin.flush()
    killed.kill()
    ended(producer)  # communicate closes its input
    ended(other)
    assert (tmp_path / "other").read_bytes() == b"first " + bytes(20_000)


def test_an_array_file_comes_to_all(begin, path, tmp_path):
    rows = np.arange(30_000, dtype="i4")
    np.save(tmp_path / "sent.npy", rows)
    copies = [tmp_path / f"copy{i}.npy" for i in range(2)]
    consumers = [begin("consume", path, "--subscribe", copy, "--dtype", "i4") for copy in copies]
    ended(begin("produce", path, tmp_path / "sent.npy", "--readers", 2))
    for process, copy in zip(consumers, copies, strict=True):
        ended(process)
        assert np.load(copy).tolist() == rows.tolist()


def test_readers_that_do_not_come_in_time_are_an_error(path):
    done = run_here("produce", path, "--readers", "2", "--timeout", "0.05", input="")
    assert done.exit_code == 1
    assert f"0 of 2 readers came within the timeout (waited on {path})" in done.stderr
    assert not path.exists()


def test_the_newest_are_published_without_waiting_for_anybody(begin, path, tmp_path):
    np.save(tmp_path / "sent.npy", np.arange(300_000))
    options = ["--readers", "newest", "--ring-size", "4K", "--stats"]
    assert "300,000 entries" in ended(begin("produce", path, tmp_path / "sent.npy", *options))
    (tmp_path / "text").write_text("all of it " * 100_000)
    ended(begin("produce", path, tmp_path / "text", *options[:-1]))


# ---- consume --subscribe ----


@pytest.mark.parametrize("end", ["close", signal.SIGINT, signal.SIGTERM])
def test_one_that_falls_behind_says_how_many_it_missed(begin, path, tmp_path, end):
    file = tmp_path / "numbers"
    with ringbell.publish(path, "i4", keep="newest", ring_size=4096) as publisher:
        process = subscribing(begin, publisher, path, file)
        publisher.write([0])
        wait_until(lambda: size(file) == 4)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(process.pid) == "T")
        for start in range(1, 100_001, 100):
            publisher.write(np.arange(start, start + 100, dtype="i4"))
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: size(file) > 4 and np.fromfile(file, "i4")[-1] == 100_000)
        if end == "close":
            publisher.close()
        else:
            process.send_signal(end)
        said = ended(process, 0 if end == "close" else 128 + end)
    taken = np.fromfile(file, "i4")
    assert (np.diff(taken) > 0).all()
    (missed,) = re.findall(r"missed ([\d,]+) entries", said)
    assert len(taken) + int(missed.replace(",", "")) == 100_001


def test_one_that_missed_nothing_does_not_speak_of_it(begin, path):
    with ringbell.publish(path, keep="newest") as publisher:
        process = subscribing(begin, publisher, path, stdout=subprocess.PIPE)
        publisher.send(b"a line\n")
        assert process.stdout.readline() == b"a line\n"
        publisher.close()
        assert "missed" not in ended(process)


def test_who_wants_no_more_goes_and_the_others_stay(begin, path, tmp_path):
    with ringbell.publish(path) as publisher:
        stays = subscribing(begin, publisher, path, tmp_path / "copy")
        goes = subscribing(begin, publisher, path, stdout=subprocess.PIPE)
        goes.stdout.close()
        publisher.send(b"x")
        goes.wait()
        assert goes.returncode == 141
        wait_until(lambda: len(publisher.readers) == 1)
        publisher.send(b"y")
        publisher.close()
        ended(stays)
    assert (tmp_path / "copy").read_bytes() == b"xy"


def test_one_that_is_let_go_is_told(begin, path, tmp_path):
    file = tmp_path / "copy"
    with ringbell.publish(path, stall=0.01, ring_size=4096) as publisher:
        process = subscribing(begin, publisher, path, file)
        publisher.send(b"x")
        wait_until(lambda: size(file) == 1)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(process.pid) == "T")
        for _ in range(100):
            publisher.send(bytes(100))
        process.send_signal(signal.SIGCONT)
        assert "let this subscriber go" in ended(process, 1)


def test_a_publisher_that_dies_is_told(begin, start, path, tmp_path):
    peer = start("nothing")
    peer.run("publisher = ringbell.publish(path)")
    process = begin("consume", "--subscribe", path, tmp_path / "copy")
    peer.run("publisher.send(b'x')")  # waits for it
    wait_until(lambda: size(tmp_path / "copy") == 1)
    peer.kill()
    assert "died" in ended(process, 1)


def test_a_consumer_of_a_publication_is_told_of_the_option(path):
    with ringbell.publish(path):
        done = run_here("consume", path)
    assert done.exit_code == 2
    assert done.stderr.endswith("use 'ringbell consume --subscribe', or another name\n")


def test_a_publisher_is_told_of_the_option_of_a_consumer_that_waits(begin, path, tmp_path):
    consumer = begin("consume", path)
    wait_until_listening(path)
    (tmp_path / "empty").touch()
    done = run_here("produce", path, tmp_path / "empty", "--readers", "1")
    assert done.exit_code == 2
    assert "a 'ringbell consume' that waits there needs --subscribe" in done.stderr
    consumer.send_signal(signal.SIGINT)
    ended(consumer, 130)


def test_a_producer_of_a_plain_stream_is_no_publisher(start, path):
    start("producer")
    wait_until_listening(path)
    done = run_here("consume", "--subscribe", path)
    assert done.exit_code == 2
    assert "a subscriber cannot meet a producer; use ringbell.consume" in done.stderr


def test_a_publication_of_something_else_is_refused(path):
    with ringbell.publish(path, "i4"):
        done = run_here("consume", "--subscribe", path, "--dtype", "f8")
    assert done.exit_code == 2
    assert "not records of float64" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["produce", "--readers", "65"], "--readers is how many to wait for, from 0 to 64"),
        (["produce", "--readers", "-1"], "--readers is how many to wait for, from 0 to 64"),
        (["produce", "--readers", ""], "or newest, not ''"),
        (["produce", "--readers", "newest", "--timeout", "1"], "--readers newest waits for none"),
        (["produce", "--readers", "0", "--timeout", "1"], "--readers 0 waits for none"),
        (["consume", "--subscribe", "--many"], "--many takes from many producers"),
        (["consume", "--subscribe", "--timeout", "0.01"], "nobody published"),
    ],
)
def test_bad_options_are_refused_in_one_line(path, arguments, message):
    done = run_here(*arguments, path, input="")
    assert done.exit_code in (1, 2)
    lines = [line for line in done.stderr.splitlines() if "waiting for" not in line]
    assert len(lines) == 1
    assert message in lines[0]
