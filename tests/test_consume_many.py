# SPDX-License-Identifier: MIT
"""`ringbell consume --many`, as a shell sees it."""

import signal
import subprocess
from contextlib import contextmanager

import numpy as np
import pytest
from commands import run_here
from conftest import ended
from processes import RINGBELL, wait_until, wait_until_listening

import ringbell


@contextmanager
def consuming(path, *arguments, **options):
    """Run `ringbell consume --many`, once it listens; end it whatever happens."""
    with subprocess.Popen(
        [*RINGBELL, "consume", "--many", str(path), *map(str, arguments)],
        stderr=subprocess.PIPE,
        **options,
    ) as process:
        try:
            wait_until_listening(path)
            yield process
        finally:
            process.kill()


def end(process):
    """Press Ctrl-C; give what was said on stderr."""
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    return process.stderr.read().decode()


def size(file):
    return file.stat().st_size if file.exists() else 0


@pytest.mark.parametrize("where", ["file", "output"])
def test_the_lines_of_all_producers_arrive_whole_and_in_order(start, path, tmp_path, where):
    file = tmp_path / "all"
    with file.open("wb") as output:
        to = {"stdout": output} if where == "output" else {}
        with consuming(path, *([file] if where == "file" else []), "--stats", **to) as process:
            peers = [start("nothing") for _ in range(3)]
            for number, peer in enumerate(peers):
                peer.begin(f"""
with ringbell.produce(path, ring_size=4096) as producer:
    for i in range(2000):
        producer.send(b"{number} %d %s\\n" % (i, b"x" * (i % 200)))
""")
            for peer in peers:
                peer.reply()
            expected = sum(len(f"0 {i} {'x' * (i % 200)}\n") for i in range(2000)) * 3
            wait_until(lambda: size(file) == expected)
            said = end(process)
    taken = [0] * 3
    for line in file.read_text().splitlines():
        number, i, filler = line.split(" ")
        assert int(i) == taken[int(number)]
        assert filler == "x" * (int(i) % 200)
        taken[int(number)] += 1
    assert taken == [2000] * 3
    assert f"{expected:,} bytes of 3 producers" in said


def test_a_killed_producer_is_told_and_the_others_go_on(start, path, tmp_path):
    file = tmp_path / "all"
    with consuming(path, file) as process:
        killed, other = start("producer"), start("producer")
        killed.run("producer.send(b'killed ')")
        wait_until(lambda: size(file) == 7)
        killed.kill()
        assert f"process {killed.pid}) died" in process.stderr.readline().decode()
        other.run("producer.send(b'other')")
        wait_until(lambda: size(file) == 12)
        assert "Traceback" not in end(process)
    assert file.read_bytes() == b"killed other"


def test_records_of_all_producers_become_one_array(start, path, tmp_path):
    file = tmp_path / "all.npy"
    with consuming(path, file, "--dtype", "i4") as process:
        other = start("nothing")
        other.begin("ringbell.produce(path, 'f8')")
        assert "not records of int32" in process.stderr.readline().decode()
        for number in range(3):
            with ringbell.produce(path, "i4") as producer:
                producer.write([number] * 5)
            wait_until(lambda number=number: size(file) == 128 + 4 * 5 * (number + 1))
        end(process)
    assert np.load(file).tolist() == sorted(list(range(3)) * 5)


def test_what_cannot_be_written_is_refused_in_one_line(path, tmp_path):
    with consuming(path, tmp_path / "all.npy") as process:
        with ended(ringbell.produce(path)) as producer:
            producer.send(b"no records")
            assert process.wait() == 2
        assert "carries bytes and no records" in process.stderr.read().decode()


def test_nobody_who_comes_in_time_is_an_error(path):
    done = run_here("consume", "--many", path, "--timeout", "0.1")
    assert done.exit_code == 1
    assert "nobody produced" in done.stderr


def test_a_reader_who_wants_no_more_ends_it(path):
    with consuming(path, stdout=subprocess.PIPE) as process:
        process.stdout.close()
        with ended(ringbell.produce(path)) as producer:
            producer.send(b"x")
            assert process.wait() == 141


def test_a_name_that_is_in_use_is_told(start, path):
    start("consumer")
    wait_until_listening(path)
    done = run_here("consume", "--many", path)
    assert done.exit_code == 2
    assert "another consumer" in done.stderr
