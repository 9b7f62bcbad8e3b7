# SPDX-License-Identifier: MIT
"""`ringbell produce` and `ringbell consume`, between files and pipes."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import warnings
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from processes import RINGBELL, wait_until
from typer.testing import CliRunner

from ringbell.command import cli

HUGE_OFFSET = {"names": ["a"], "formats": ["f8"], "offsets": [10**20]}
CSRC = Path(__file__).parent.parent / "csrc"
RECORD = [("t", "M8[ns]"), ("x", "<f4", (3,)), ("n", [("a", "u1"), ("b", "S3")])]


@pytest.fixture
def run(path):
    """Run the command; what still runs at the end is ended."""
    with ExitStack() as guard:

        def start(command, *arguments, **options):
            options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE} | options
            process = subprocess.Popen([*RINGBELL, command, str(path), *arguments], **options)

            def end():
                process.kill()
                process.wait()
                for stream in (process.stdout, process.stderr):
                    if stream:
                        stream.close()

            guard.callback(end)
            return process

        yield start


@pytest.fixture
def produce_here(path):
    """Run `ringbell produce` in this process, which takes half of the time."""
    return lambda *arguments: CliRunner().invoke(
        cli.app, ["produce", str(path), *map(str, arguments)]
    )


def finish(process):
    """Wait for the end; return the exit code, what came out, and the messages."""
    out, messages = process.communicate()
    return process.returncode, out, messages.decode()


@pytest.fixture
def content(tmp_path):
    """Some bytes of each kind, more than the ring holds."""
    file = tmp_path / "content"
    file.write_bytes(np.random.default_rng(5).bytes(3_000_001))
    return file


def test_a_tree_goes_through_tar_and_back(run, tmp_path):
    tar = subprocess.Popen(["tar", "c", "-C", str(CSRC.parent), "csrc"], stdout=subprocess.PIPE)
    producer = run("produce", stdin=tar.stdout)
    consumer = run("consume", stdout=subprocess.PIPE)
    untar = subprocess.run(["tar", "x", "-C", tmp_path], stdin=consumer.stdout, check=False)
    assert untar.returncode == tar.wait() == 0
    tar.stdout.close()
    assert finish(producer)[0] == finish(consumer)[0] == 0
    subprocess.run(["diff", "-r", CSRC, tmp_path / "csrc"], check=True)


@pytest.mark.parametrize("first", ["produce", "consume"])
def test_bytes_of_files_arrive_as_they_are_whoever_starts_first(run, content, tmp_path, first):
    copy = tmp_path / "copy"
    arguments = {"produce": [str(content), str(content)], "consume": [str(copy)]}
    second = "consume" if first == "produce" else "produce"
    processes = [run(name, *arguments[name], "--stats") for name in (first, second)]
    for process in processes:
        code, _, messages = finish(process)
        assert code == 0
        assert re.search(r"ringbell: 6,000,002 bytes in \d+ entries", messages)
    assert copy.read_bytes() == 2 * content.read_bytes()


def test_an_empty_input_is_an_empty_output(run):
    run("produce")
    assert finish(run("consume", stdout=subprocess.PIPE))[:2] == (0, b"")


@pytest.mark.parametrize(
    "rows",
    [
        np.array([(i, (i, 1, 2), (i % 256, b"abc")) for i in range(20_000)], RECORD),
        np.arange(300.0).reshape(100, 3),
        np.asfortranarray(np.arange(300).reshape(100, 3)),
        np.zeros(0, RECORD),
    ],
    ids=["structured", "rows", "columns", "none"],
)
def test_an_array_file_arrives_as_an_array_file(run, produce_here, rows, tmp_path):
    there, here = tmp_path / "there.npy", tmp_path / "here.npy"
    np.save(there, rows)
    consumer = run("consume", here)
    done = produce_here(there)
    assert done.exit_code == finish(consumer)[0] == 0
    arrived = np.load(here)
    assert arrived.dtype == rows.dtype
    assert np.array_equal(arrived, rows)
    assert ("(Fortran order)" in done.stderr) == (not rows.flags.c_contiguous)
    if rows.flags.c_contiguous:
        assert here.read_bytes() == there.read_bytes()


def test_an_array_file_with_names_of_any_script_arrives(run, produce_here, tmp_path):
    rows = np.zeros(5, [("\u4fa1\u683c", "f8")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns that its old releases cannot read the file
        np.save(tmp_path / "there.npy", rows)
    consumer = run("consume", tmp_path / "here.npy")
    assert produce_here(tmp_path / "there.npy").exit_code == finish(consumer)[0] == 0
    assert np.load(tmp_path / "here.npy").dtype == rows.dtype


def test_a_consumer_that_is_terminated_leaves_a_whole_array_file(run, tmp_path):
    reader, writer = os.pipe()
    copy = tmp_path / "copy.npy"
    try:
        run("produce", "--dtype", "f8", stdin=reader)
        consumer = run("consume", copy)
        os.write(writer, np.arange(3.0).tobytes())
        empty = io.BytesIO()
        np.save(empty, np.zeros(0))
        wait_until(lambda: copy.exists() and copy.stat().st_size == len(empty.getvalue()) + 24)
        consumer.send_signal(signal.SIGTERM)
        assert consumer.wait() == 128 + signal.SIGTERM
    finally:
        os.close(reader)
        os.close(writer)
    assert np.load(copy).tolist() == [0, 1, 2]


def test_raw_records_arrive_as_they_are(run, tmp_path):
    rows = np.arange(200_000, dtype="<i4")
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(rows.tobytes())
    with source.open("rb") as raw:
        producer = run("produce", "--dtype", "i4,i4", stdin=raw)
    consumer = run("consume", copy, "--dtype", "[('f0', '<i4'), ('f1', '<i4')]")
    assert finish(producer)[0] == finish(consumer)[0] == 0
    assert copy.read_bytes() == rows.tobytes()


def test_a_part_of_a_record_at_the_end_is_an_error_and_the_whole_ones_arrive(
    run, produce_here, tmp_path
):
    (tmp_path / "source").write_bytes(b"x" * 21)
    consumer = run("consume", stdout=subprocess.PIPE)
    done = produce_here(tmp_path / "source", "--dtype", "f8")
    assert done.exit_code == 2
    assert "ends with 5 bytes, which are no whole record of 8 bytes" in done.stderr
    code, out, messages = finish(consumer)
    assert (code, out) == (1, b"x" * 16)
    assert "gave it up" in messages


def test_a_producer_that_is_killed_is_no_end_of_the_stream(run, tmp_path):
    reader, writer = os.pipe()
    try:
        producer = run("produce", stdin=reader)
        copy = tmp_path / "copy"
        consumer = run("consume", copy)
        os.write(writer, b"the first part")
        wait_until(lambda: copy.exists() and copy.read_bytes())
        producer.kill()
        code, _, messages = finish(consumer)
    finally:
        os.close(reader)
        os.close(writer)
    assert code == 1
    assert "died without closing" in messages
    assert copy.read_bytes() == b"the first part"


def test_a_consumer_that_is_interrupted_ends_the_producer(run, content):
    producer = run("produce", content, content)
    consumer = run("consume", stdout=subprocess.PIPE)
    consumer.stdout.read(1)  # the rest stays unread, so both sides wait
    consumer.send_signal(signal.SIGINT)
    assert consumer.wait() == 128 + signal.SIGINT
    code, _, messages = finish(producer)
    assert code == 1
    assert "closed the channel" in messages


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_consumer_that_leaves_with_bytes_unread_is_an_error_of_an_idle_producer(run, number):
    reader, writer = os.pipe()
    try:
        producer = run("produce", stdin=reader)
        os.close(reader)
        consumer = run("consume", stdout=subprocess.PIPE)
        # This is more than the consumer's output holds, so the rest stays in the ring.
        for _ in range(10):
            os.write(writer, b"x" * 60_000)
        wait_until(lambda: select.select([consumer.stdout], [], [], 0)[0])
        consumer.send_signal(number)
        consumer.wait()
    finally:
        os.close(writer)
    code, _, messages = finish(producer)
    assert code == 1
    assert re.search("closed the channel|died without closing", messages)


def test_a_reader_that_wants_no_more_is_no_traceback(run, content):
    producer = run("produce", content)
    consumer = run("consume", stdout=subprocess.PIPE)
    consumer.stdout.read(1)
    consumer.stdout.close()
    consumer.wait()
    assert consumer.returncode == 128 + signal.SIGPIPE
    assert re.fullmatch(b"(ringbell: waiting for the producer of .*\n)?", consumer.stderr.read())
    consumer.stdout = None
    assert finish(producer)[0] == 1


def test_another_dtype_is_refused_on_both_sides(run, produce_here, content):
    consumer = run("consume", "--dtype", "f8")
    done = produce_here(content)
    assert (done.exit_code, "messages, not records of float64" in done.stderr) == (2, True)
    code, _, messages = finish(consumer)
    assert (code, "messages, not records of float64" in messages) == (2, True)


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("produce", ["--dtype", "O"], "hold Python objects"),
        ("produce", ["--dtype", "S0"], "have no bytes"),
        ("produce", ["--dtype", "[('a',"], "is no dtype"),
        ("produce", ["--dtype", "nonsense"], "is no dtype"),
        ("produce", ["--dtype", '{"names": ["a"]}'], "is no dtype"),
        ("produce", ["--dtype", "[exit()]"], "is no dtype: it is no list or dict"),
        ("produce", ["--dtype", str(HUGE_OFFSET)], "is no dtype"),
        ("produce", ["/nowhere/to/be/found"], "No such file or directory"),
        ("produce", ["/nowhere/to/be/found.npy"], "No such file or directory"),
        ("produce", ["--ring-size", "5000"], "--ring-size is a power of two"),
        ("consume", ["/nowhere/to/be/found"], "there is no such folder"),
        ("consume", ["/tmp"], "this is a folder"),
        ("consume", ["--timeout", "0"], "within the timeout"),
    ],
)
def test_bad_input_is_one_line(path, command, arguments, message):
    done = CliRunner().invoke(cli.app, [command, str(path), *arguments])
    assert done.exit_code == (1 if "timeout" in message else 2)
    assert re.fullmatch(rf"ringbell: .*{re.escape(message)}.*\n", done.stderr)


def test_files_that_cannot_be_read_are_refused_before_anybody_is_met(path, tmp_path):
    (tmp_path / "empty.npy").touch()
    for file, message in (("empty.npy", "cannot be read as an array file"), (".", "is a folder")):
        done = CliRunner().invoke(cli.app, ["produce", str(path), str(tmp_path / file)])
        assert done.exit_code == 2
        assert re.fullmatch(rf"ringbell: .*{message}.*\n", done.stderr)


def test_array_files_of_two_dtypes_are_refused(path, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.save(tmp_path / "b.npy", np.zeros(3, "i4"))
    (tmp_path / "c").touch()
    for files, message in (("ab", "has the dtype int32"), ("ac", "one stream cannot carry both")):
        names = [str(next(tmp_path.glob(f"{file}*"))) for file in files]
        done = CliRunner().invoke(cli.app, ["produce", str(path), *names])
        assert done.exit_code == 2
        assert message in done.stderr
    done = CliRunner().invoke(
        cli.app, ["produce", str(path), "--dtype", "f8", str(tmp_path / "a.npy")]
    )
    assert done.exit_code == 2
    assert "says its dtype itself; leave --dtype away" in done.stderr


def test_a_terminal_sees_the_progress(run, content):
    terminal, far_end = pty.openpty()
    producer = run("produce", content, stderr=far_end)
    os.close(far_end)
    assert finish(run("consume", stdout=subprocess.DEVNULL))[0] == 0
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:
        pass  # how the end of a terminal reads
    finally:
        os.close(terminal)
    assert producer.wait() == 0
    assert b"3.0/3.0 MB" in shown
