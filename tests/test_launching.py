# SPDX-License-Identifier: MIT
"""A device in a process that `launch` has started: what it takes, raises and logs."""

import contextlib
import logging
import multiprocessing
import os
import signal

import launched
import pytest
from launched import pid_of
from processes import LAUNCHES, has_ended, run_script

import ringbell
from ringbell.launching import worker

pytestmark = LAUNCHES


def test_a_device_answers_from_a_process_that_ends_with_the_block(method):
    with ringbell.launch(launched.does, start_method=method) as driver:
        device = pid_of(driver)
        assert device != os.getpid()
    assert has_ended(device)


def test_a_device_runs_on_its_cpu(method):
    cpu = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    with ringbell.launch(launched.does, cpu=cpu, start_method=method) as driver:
        assert driver.call(b"cpus") == f"[{cpu}]".encode()
    assert os.sched_getaffinity(0) == before


def test_a_handler_may_be_named(method):
    with ringbell.launch("launched:upper", start_method=method) as driver:
        assert driver.call(b"abc") == b"ABC"


def test_a_forked_device_may_have_any_function():
    with ringbell.launch(lambda payload: payload[::-1].tobytes(), start_method="fork") as driver:
        assert driver.call(b"abc") == b"cba"


def test_a_handler_may_hold_what_multiprocessing_passes_on():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with ours, theirs, ringbell.launch(launched.Told(theirs)) as driver:
        driver.call(b"abc")
        assert ours.recv() == b"abc"


def test_the_options_are_those_of_connect():
    moderation = ringbell.Moderation(entries=4)
    options = {"ring_size": 4096, "memory": "posix", "polling": "never", "kick": "always"}
    with ringbell.launch(
        launched.upper, moderation=moderation, max_message=5000, **options
    ) as driver:
        assert driver.max_payload <= 4096
        assert driver.stats().memory == "posix"
        assert driver.interrupt.moderation == moderation
        with pytest.raises(ringbell.RequestFailed, match="5,?000"):
            driver.call(bytes(6000))
        assert driver.stats().device.consumer.polling.found == 0


def test_several_devices_run_at_once(method):
    with contextlib.ExitStack() as stack:
        drivers = [
            stack.enter_context(ringbell.launch(launched.does, start_method=method))
            for _ in range(3)
        ]
        assert len({pid_of(driver) for driver in drivers}) == 3


# ---- what cannot be started ----


@pytest.mark.parametrize(
    ("handler", "options", "error", "text"),
    [
        (5, {}, TypeError, "the handler is a function or 'MODULE:FUNCTION', not 5"),
        ("upper", {}, ValueError, "a handler is MODULE:FUNCTION, like zlib:compress, not 'upper'"),
        ("no_such_module:f", {}, ValueError, "cannot import 'no_such_module': ModuleNotFoundError"),
        ("launched:nothing", {}, ValueError, "module 'launched' has no 'nothing'"),
        ("launched:np.pi", {}, ValueError, "'launched:np.pi' is a float, not a function"),
        (lambda payload: b"", {}, TypeError, "the handler cannot be sent to a new process: Can't"),
        (launched.upper, {"cpu": 9999}, ValueError, "cpu is the number of a CPU that this thread"),
        (launched.upper, {"polling": "often"}, ValueError, "polling is one of adaptive, never"),
        (launched.upper, {"ring_size": 5}, ValueError, "ring_size is a power of two"),
        (launched.upper, {"start_method": "vfork"}, ValueError, "start_method is one of spawn"),
        (launched.upper, {"timeout": -1}, ValueError, "timeout"),
    ],
)
def test_what_cannot_be_started_is_told(handler, options, error, text):
    with pytest.raises(error, match=text.replace("'", ".")), ringbell.launch(handler, **options):
        pytest.fail("the block began")


def test_what_fails_in_the_new_process_comes_with_its_traceback(method):
    with (
        pytest.raises(ValueError, match="has no 'nothing'") as caught,
        ringbell.launch("launched:nothing", start_method=method),
    ):
        pytest.fail("the block began")
    (note,) = caught.value.__notes__
    assert "in the device, process " in note
    assert "functions.py" in note
    assert note.rstrip().endswith("ValueError: module 'launched' has no 'nothing'")


def test_a_process_that_dies_before_it_is_ready_is_told(tmp_path, monkeypatch):
    (tmp_path / "dies.py").write_text("import os; os._exit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(RuntimeError, match="ended with exit code 3 before it was ready"),
        ringbell.launch("dies:f"),
    ):
        pytest.fail("the block began")


@pytest.mark.parametrize("starts", [ringbell.launch, ringbell.Pool])
def test_a_process_that_is_killed_before_the_two_meet_is_told(starts, monkeypatch):
    def kill_and_connect(path, **options):
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        return ringbell.connect(path, **options)

    monkeypatch.setattr("ringbell.launching.device.connect", kill_and_connect)
    with (
        pytest.raises(ringbell.PeerLost, match=r"process \(\d+\) was ended by SIGKILL"),
        starts(launched.does),
    ):
        pass


def test_a_device_that_takes_too_long_to_start_is_ended(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import signal; signal.pause()")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(TimeoutError, match="the device's process was not ready"),
        ringbell.launch("slow:f", timeout=0.5),
    ):
        pytest.fail("the block began")


def test_a_script_that_starts_processes_when_it_is_imported_is_told_so(tmp_path):
    script = """
with ringbell.launch(launched.upper) as driver:
    print(driver.call(b"a"))
"""
    with run_script(script, tmp_path) as process:
        out, messages = process.communicate()
    assert (process.returncode, out) == (1, "")
    assert 'A script starts processes below `if __name__ == "__main__":`' in messages


# ---- what the device raises and logs ----


def test_what_a_handler_raises_is_answered_and_logged_here(caplog):
    with (
        ringbell.launch(launched.does) as driver,
        pytest.raises(ringbell.RequestFailed, match="ValueError: no good"),
    ):
        driver.call(b"raise no good")
    (record,) = caplog.records
    assert record.name == "ringbell"
    assert record.levelname == "WARNING"
    assert "raise ValueError(argument)\nValueError: no good" in record.getMessage()


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.variant)])
def test_what_a_device_logs_goes_where_the_logs_of_this_process_go(method, caplog):
    caplog.set_level(logging.INFO, "launched")
    with ringbell.launch(launched.does, start_method=method) as driver:
        device = pid_of(driver)
        driver.call(b"log this")
    assert [(record.process, record.getMessage()) for record in caplog.records] == [
        (device, "an info line of this")
    ]


def test_a_forked_device_has_the_log_handlers_of_this_process(tmp_path):
    file = logging.FileHandler(tmp_path / "log")
    launched.log.addHandler(file)
    launched.log.setLevel(logging.INFO)
    try:
        with ringbell.launch(launched.does, start_method="fork") as driver:
            driver.call(b"log this")
    finally:
        launched.log.setLevel(logging.NOTSET)
        launched.log.removeHandler(file)
        file.close()
    assert (tmp_path / "log").read_text() == "an info line of this\n"


def test_a_log_handler_that_raises_does_not_end_the_block(capsys):
    class Broken(logging.Handler):
        def handle(self, record):
            raise ZeroDivisionError

    broken = Broken()
    logging.root.addHandler(broken)
    try:
        with ringbell.launch(launched.does) as driver:
            with pytest.raises(ringbell.RequestFailed):
                driver.call(b"raise this")
            assert pid_of(driver)
    finally:
        logging.root.removeHandler(broken)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_driver_is_told_how_its_device_was_killed(method):
    with (
        pytest.raises(ringbell.PeerLost) as caught,
        ringbell.launch(launched.does, start_method=method) as driver,
    ):
        device = pid_of(driver)
        os.kill(device, signal.SIGKILL)
        driver.call(b"pid")
    assert f"the device's process ({device}) was ended by SIGKILL" in caught.value.__notes__[-1]


def test_a_block_that_outlives_its_device_ends_cleanly(method, caplog):
    with ringbell.launch(launched.does, start_method=method) as driver:
        os.kill(pid_of(driver), signal.SIGKILL)
        with pytest.raises(ringbell.PeerLost):
            driver.call(b"pid")
    assert "was ended by SIGKILL" in caplog.text


def test_a_driver_is_told_what_ended_its_device(method):
    with (
        pytest.raises(ringbell.PeerLost) as caught,
        ringbell.launch(launched.does, start_method=method) as driver,
    ):
        driver.call(b"keep")
    assert "BufferError" in caught.value.__notes__[-1]
    assert "Traceback" in caught.value.__notes__[-1]


def test_a_loss_of_another_channel_is_not_explained_with_this_device(start, connect, monkeypatch):
    monkeypatch.setattr(worker.Worker.trouble, "__defaults__", (0.01,))
    other = start("device")
    elsewhere = connect()
    with (
        pytest.raises(ringbell.PeerLost) as caught,
        ringbell.launch(launched.upper),
    ):
        other.kill()
        elsewhere.call(b"")
    assert "device" not in "".join(caught.value.__notes__)
