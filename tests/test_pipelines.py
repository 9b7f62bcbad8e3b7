# SPDX-License-Identifier: MIT
"""A stream between two processes that `pipeline`, or the command `run`, has started."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import launched
import pytest
from processes import LAUNCHES, has_ended, spawned_by, wait_until
from typer.testing import CliRunner

import ringbell
from ringbell.command import cli, options

TESTS = Path(__file__).parent

pytestmark = LAUNCHES


def test_records_go_from_one_process_to_another(method):
    found = ringbell.pipeline(launched.counts, launched.total, "i8", start_method=method)
    assert found == sum(range(10_000))


def test_messages_go_from_one_process_to_another(method):
    found = ringbell.pipeline(launched.sends_lines, launched.joined, start_method=method)
    assert found == ["one", "two", "three"]


def test_functions_may_be_named():
    found = ringbell.pipeline("launched:counts", "launched:total", "i8", ring_size=4096)
    assert found == sum(range(10_000))


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_the_two_are_pinned():
    allowed = sorted(os.sched_getaffinity(0))
    first, last = allowed[:2]
    for cpus, expected in (
        ("auto", None),
        ((last, first), ([last], [first])),
        (None, (allowed, allowed)),
    ):
        (told,), taker = ringbell.pipeline(
            launched.tells_cpus, launched.joined_with_cpus, cpus=cpus
        )
        found = (json.loads(told), taker)
        if expected is None:
            assert (len(found[0]), len(found[1]), found[0] != found[1]) == (1, 1, True)
        else:
            assert found == expected
    assert sorted(os.sched_getaffinity(0)) == allowed


def test_what_both_log_goes_where_the_logs_of_this_process_go(caplog):
    caplog.set_level(logging.INFO)
    ringbell.pipeline(launched.sends_lines, launched.joined)
    assert [record.getMessage() for record in caplog.records] == ["sent 3"]


@pytest.mark.parametrize(
    ("producer", "consumer", "error", "text", "where"),
    [
        (launched.counts, launched.raises, KeyError, "not wanted", "in raises"),
        (launched.writes_and_raises, launched.total, ZeroDivisionError, "after 100", "in writes_"),
        (launched.waits, launched.raises, KeyError, "not wanted", "in raises"),
        (launched.writes_for_ever, launched.raises, KeyError, "not wanted", "in raises"),
        (
            launched.writes_for_ever,
            launched.takes_one,
            ringbell.EndOfStream,
            "closed",
            "in writes_for",
        ),
        (launched.raises_oddly, launched.total, RuntimeError, "OddError: 1 and 2", "in raises_o"),
        (launched.counts, launched.returns_unpicklable, TypeError, "returned cannot be sent", ""),
        (launched.exits, launched.total, SystemExit, "7", "in exits"),
    ],
)
def test_what_a_function_raises_comes_with_its_traceback(producer, consumer, error, text, where):
    with pytest.raises(error, match=text) as caught:
        ringbell.pipeline(producer, consumer, "i8")
    note = caught.value.__notes__[-1]
    side = "consumer" if error in (KeyError, TypeError) else "producer"
    assert f"in the {side}, process " in note
    assert where in note


def test_what_a_function_raises_comes_from_any_start(method):
    with pytest.raises(KeyError, match="not wanted"):
        ringbell.pipeline(launched.waits, launched.raises, "i8", start_method=method)


def test_a_consumer_takes_what_was_sent_before_its_producer_failed(caplog):
    with pytest.raises(ZeroDivisionError):
        ringbell.pipeline(launched.writes_and_raises, launched.counts_what_came, "i8")
    assert [record.getMessage() for record in caplog.records] == ["100 came"]


def test_two_failures_are_both_told(caplog):
    with pytest.raises((ZeroDivisionError, KeyError)):
        ringbell.pipeline(launched.writes_and_raises, launched.raises_at_the_end, "i8")
    assert re.search("failed as well: (ZeroDivisionError|KeyError)", caplog.text)


def test_a_killed_side_is_told(method):
    with pytest.raises(ringbell.PeerLost, match="the producer's process .* was ended by SIGKILL"):
        ringbell.pipeline(launched.is_killed, launched.total, "i8", start_method=method)
    with pytest.raises(ringbell.PeerLost, match="the consumer's process .* was ended by SIGKILL"):
        ringbell.pipeline(launched.waits, launched.kills_itself, "i8", start_method=method)


@pytest.mark.parametrize(
    ("producer", "consumer", "options", "error", "text"),
    [
        ("launched:nothing", launched.total, {}, ValueError, "module 'launched' has no 'nothing'"),
        (launched.counts, "nowhere:f", {}, ValueError, "cannot import 'nowhere'"),
        ("counts", launched.total, {}, ValueError, "a producer is MODULE:FUNCTION"),
        (launched.counts, lambda stream: None, {}, TypeError, "the consumer cannot be sent"),
        (launched.counts, launched.total, {"cpus": (0, 9999)}, ValueError, "cpu is the number"),
        (launched.counts, launched.total, {"cpus": 1}, TypeError, "cpus is a pair of CPUs"),
        (launched.counts, launched.total, {"polling": "no"}, ValueError, "polling is one of"),
        (launched.counts, launched.total, {"ring_size": 3}, ValueError, "ring_size is"),
        (launched.counts, launched.total, {"dtype": "O"}, ValueError, "Python objects"),
    ],
)
def test_what_cannot_be_started_is_told(producer, consumer, options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        ringbell.pipeline(producer, consumer, **{"dtype": "i8"} | options)


# ---- from a script, and from the command line ----

SCRIPT = """
import sys
import launched
import ringbell

if __name__ == "__main__":
    ringbell.pipeline(launched.waits, launched.total, "i8", start_method=sys.argv[1])
"""
RUN = [sys.executable, "-m", "ringbell", "run"]


def start(*command):
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        start_new_session=True,
    )


def wait_until_they_have_met(process):
    def maps():
        both = spawned_by(process.pid)
        return [Path(f"/proc/{one}/maps").read_text() for one in both]

    wait_until(lambda: sum("memfd:ringbell" in one for one in maps()) == 2)
    return spawned_by(process.pid)


def test_both_end_with_their_parent(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with start(sys.executable, tmp_path / "script.py", "spawn") as process:
        both = wait_until_they_have_met(process)
        process.kill()
        wait_until(lambda: all(map(has_ended, both)))


def test_ctrl_c_ends_all_with_one_traceback(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with start(sys.executable, tmp_path / "script.py", "spawn") as process:
        both = wait_until_they_have_met(process)
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert messages.count("Traceback") == 1
    assert all(map(has_ended, both))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_quietly(number, code):
    functions = ["--producer", "launched:waits", "--consumer", "launched:total"]
    with start(*RUN, *functions, "--dtype", "i8") as process:
        both = wait_until_they_have_met(process)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.communicate() == ("", "")
    assert process.returncode == code
    assert all(map(has_ended, both))


def run(*arguments):
    return CliRunner().invoke(cli.app, ["run", *arguments])


COUNTS = ["--producer", "launched:counts", "--consumer", "launched:total", "--dtype", "i8"]


def test_the_command_shows_figures():
    done = run(*COUNTS)
    assert (done.exit_code, done.stdout) == (0, "")
    assert re.fullmatch(
        r"ringbell: 10,000 records, 80,000 bytes in [\d.]+ s: [\d,]+ records/s, [\d,.]+ MB/s; "
        r"[\d,]+ kicks to the consumer, [\d,]+ to the producer\n",
        done.stderr,
    )


def test_the_command_gives_figures_as_json():
    done = run(*COUNTS, "--json", "--cpus", "none", "--ring-size", "8K")
    assert (done.exit_code, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["records"], found["bytes"], found["cpus"]) == (10_000, 80_000, [None, None])
    assert (found["ring_size"], found["dtype"]) == (8192, "int64")
    assert found["stats"]["device"]["consumer"]["entries"] == 10_000


def test_the_command_shows_the_rate_while_it_runs(tmp_path):
    """On a terminal, until the consumer has seen what it wants."""
    command = [*RUN, "--producer", "launched:writes_for_ever", "--consumer", "launched:total"]
    with subprocess.Popen(
        ["script", "-qefc", " ".join([*map(str, command), "--dtype", "i8"]), "/dev/null"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(TESTS), "COLUMNS": "100", "TERM": "xterm"},
    ) as process:
        shown = b""
        try:
            while not re.search(rb"[\d,]+ records/s, [\d,.]+ MB/s, ring \d+% full, \d+ k", shown):
                shown += os.read(process.stdout.fileno(), 10_000)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.stdout.read()


def test_a_function_that_raises_is_shown_with_its_traceback_and_exit_code_1():
    done = run("--producer", "launched:counts", "--consumer", "launched:raises", "--dtype", "i8")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("ringbell: in the consumer, process ")
    assert "in raises\n" in done.stderr
    assert done.stderr.endswith("\nringbell: KeyError: 'not wanted'\n")


def test_a_killed_process_is_exit_code_1():
    done = run("--producer", "launched:is_killed", "--consumer", "launched:total", "--dtype", "i8")
    assert done.exit_code == 1
    assert re.fullmatch(r"ringbell: the producer's process .* SIGKILL .*\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--producer", "launched:counts"], "missing option '--consumer'"),
        ([*COUNTS, "--cpus", "0"], "--cpus is two CPUs like 0,1, or auto, or none, not '0'"),
        ([*COUNTS, "--cpus", "0,9999"], "cpu is the number of a CPU that this thread may use"),
        ([*COUNTS, "--dtype", "nonsense"], "nonsense"),
        ([*COUNTS, "--consumer", "launched:nothing"], "module 'launched' has no 'nothing'"),
        ([*COUNTS, "--consumer", "launched"], "a consumer is MODULE:FUNCTION"),
        ([*COUNTS, "--ring-size", "5"], "--ring-size is a power of two"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_code_2(arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert re.fullmatch(rf"ringbell: .*{re.escape(message)}.*\n", done.stderr)


def test_cpus_are_read():
    assert options.read_cpus("3,5") == (3, 5)
    assert (options.read_cpus("auto"), options.read_cpus("none")) == ("auto", None)
