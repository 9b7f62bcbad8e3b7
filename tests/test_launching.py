# SPDX-License-Identifier: MIT
"""A device in a process that `launch` has started."""

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import launched
import pytest
from processes import has_ended, wait_until

import ringbell
from ringbell.launching import worker
from ringbell.launching.device import serve_parent
from ringbell.launching.parcel import Parcel
from ringbell.meeting import control_socket

TESTS = Path(__file__).parent

# NumPy may have threads; from Python 3.12 on, a fork warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("names"),
]


def pid_of(driver):
    return int(driver.call(b"pid"))


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


def run_script(text, folder, *arguments, **options):
    """Start a script of a user, which imports `launched`."""
    script = folder / "script.py"
    script.write_text(f"import os, signal, sys, time, threading\nimport ringbell, launched\n{text}")
    return subprocess.Popen(
        # A fork of a process that has threads is what some of them are about.
        [sys.executable, "-Wignore::DeprecationWarning", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        **options,
    )


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


# ---- how it ends ----


def test_the_end_of_the_block_waits_for_what_was_sent(tmp_path, method):
    file = tmp_path / "file"
    with ringbell.launch(launched.does, start_method=method) as driver:
        for _ in range(10):
            driver.submit(f"append {file}".encode())
    assert file.read_text() == "x" * 10


@pytest.mark.parametrize("request_text", ["begin", "hog"])
def test_an_exception_ends_a_device_that_is_busy(tmp_path, request_text, method, monkeypatch):
    monkeypatch.setattr(worker, "GRACE", 0.2)
    begun = tmp_path / "begun"
    with (
        pytest.raises(InterruptedError),
        ringbell.launch(launched.does, start_method=method) as driver,
    ):
        device = pid_of(driver)
        driver.submit(f"{request_text} {begun}".encode())
        wait_until(begun.exists)
        raise InterruptedError
    assert has_ended(device)


def test_the_loss_of_another_device_is_not_waited_for(monkeypatch):
    """A device that lives on has nothing to tell of it."""
    monkeypatch.setattr(worker, "PATIENCE", 1000)
    with pytest.raises(ringbell.PeerLost) as raised, ringbell.launch(launched.does) as dies:
        os.kill(pid_of(dies), signal.SIGKILL)
        dies.call(b"pid")
    assert any("SIGKILL" in note for note in raised.value.__notes__)
    with pytest.raises(ringbell.PeerLost), ringbell.launch(launched.does):
        raise ringbell.PeerLost("of another driver")


def test_a_device_cleans_up_when_it_is_ended(tmp_path, method, monkeypatch):
    monkeypatch.setattr(worker, "GRACE", 60)
    begun = tmp_path / "begun"
    with (
        pytest.raises(InterruptedError),
        ringbell.launch(launched.does, start_method=method) as driver,
    ):
        driver.submit(f"cleanup {begun}".encode())
        wait_until(begun.exists)
        raise InterruptedError
    assert not begun.exists()


def test_a_device_that_is_ended_while_it_frees_its_name_frees_it(monkeypatch):
    unlock, struck = control_socket._unlock, []

    def be_struck_once(*arguments):
        if not struck:
            struck.append(1)
            os.kill(os.getpid(), signal.SIGTERM)  # raises in the new process
        unlock(*arguments)

    monkeypatch.setattr(control_socket, "_unlock", be_struck_once)
    with (
        pytest.raises(ringbell.PeerLost),
        ringbell.launch(launched.upper, start_method="fork") as driver,
    ):
        driver.call(b"x")


def test_a_thread_of_the_device_does_not_hold_the_block_up(method, monkeypatch):
    monkeypatch.setattr(worker, "LAST_WORDS", 0.2)
    monkeypatch.setattr(worker, "GRACE", 0.2)
    with ringbell.launch(launched.does, start_method=method) as driver:
        device = pid_of(driver)
        driver.call(b"stay")
    assert has_ended(device)


@pytest.mark.parametrize("child", ["fork", "system"])
def test_what_a_device_has_started_does_not_hold_the_block_up(method, monkeypatch, child, tmp_path):
    monkeypatch.setattr(worker, "LAST_WORDS", 1000)
    monkeypatch.setattr(worker, "GRACE", 1000)
    with ringbell.launch(launched.does, start_method=method) as driver:
        left = int(driver.call(f"{child} {tmp_path}/pid".encode()))
    os.kill(left, signal.SIGKILL)


def test_no_descriptors_are_left(method):
    def count():
        return len(os.listdir("/proc/self/fd"))

    def launch():
        with ringbell.launch(launched.does, start_method=method) as driver:
            driver.call(b"pid")
        with pytest.raises(ValueError), ringbell.launch("launched:no", start_method=method):
            pass

    launch()  # and what multiprocessing needs once
    before = count()
    launch()
    assert count() == before


def test_a_device_lives_on_when_the_thread_that_launched_it_has_ended(method):
    with contextlib.ExitStack() as stack:
        drivers = []
        launching = ringbell.launch(launched.does, start_method=method)
        thread = threading.Thread(target=lambda: drivers.append(stack.enter_context(launching)))
        thread.start()
        thread.join()
        wait_until(lambda: not os.path.exists(f"/proc/self/task/{thread.native_id}"))
        assert pid_of(drivers[0]) == pid_of(drivers[0])


@pytest.mark.parametrize("leaves", ["os._exit(0)", "sys.exit()"])
def test_a_forked_child_leaves_the_device_to_its_parent(tmp_path, method, leaves):
    script = f"""
def main():
    with ringbell.launch(launched.does, start_method=sys.argv[1]) as driver:
        before = driver.call(b"pid")
        child = os.fork()
        if not child:
            {leaves}
            return
        assert os.waitpid(child, 0)[1] == 0
        assert driver.call(b"pid") == before
    print("done")

if __name__ == "__main__":
    main()
"""
    with run_script(script, tmp_path, method) as process:
        assert process.communicate() == ("done\n", "")


DIES = """
def main(method, file):
    with ringbell.launch(launched.does, start_method=method) as driver:
        print(driver.call(b"pid").decode(), flush=True)
        if sys.argv[4:] == ["fork"] and not os.fork():
            os.closerange(0, 3)
            signal.pause()
        driver.submit(f"{sys.argv[3]} {file}".encode())
        signal.pause()

if __name__ == "__main__":
    main(*sys.argv[1:3])
"""


@pytest.mark.parametrize(
    ("doing", "number"),
    [("begin", signal.SIGKILL), ("hog", signal.SIGKILL), ("begin", signal.SIGTERM)],
)
def test_a_device_ends_with_its_parent(tmp_path, method, doing, number):
    begun = tmp_path / "begun"
    with run_script(DIES, tmp_path, method, begun, doing) as process:
        device = int(process.stdout.readline())
        wait_until(begun.exists)
        process.send_signal(number)
        wait_until(lambda: has_ended(device))


def test_a_device_ends_with_its_parent_though_another_child_lives_on(tmp_path, method):
    begun = tmp_path / "begun"
    with run_script(DIES, tmp_path, method, begun, "begin", "fork", start_new_session=True) as one:
        try:
            device = int(one.stdout.readline())
            wait_until(begun.exists)
            one.kill()
            wait_until(lambda: has_ended(device))
        finally:
            os.killpg(one.pid, signal.SIGKILL)  # the other child


@pytest.mark.parametrize("doing", ["pid", "begin"])
def test_ctrl_c_ends_all_with_one_traceback(tmp_path, method, doing):
    script = """
if __name__ == "__main__":
    with ringbell.launch(launched.does, start_method=sys.argv[1]) as driver:
        print(driver.call(b"pid").decode(), flush=True)
        driver.call(f"{sys.argv[3]} {sys.argv[2]}".encode())
        while True:
            driver.call(b"pid")
"""
    begun = tmp_path / "begun"
    with run_script(script, tmp_path, method, begun, doing, start_new_session=True) as process:
        device = int(process.stdout.readline())
        if doing == "begin":
            wait_until(begun.exists)
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert has_ended(device)
    assert messages.count("Traceback") == 1
    assert messages.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_while_a_device_starts_ends_all_with_one_traceback(tmp_path):
    script = """
if __name__ == "__main__":
    print("begins", flush=True)
    with ringbell.launch("slow:f"):
        pass
"""
    (tmp_path / "slow.py").write_text("print('loads', flush=True)\nwhile True: pass\n")
    with run_script(script, tmp_path, start_new_session=True) as process:
        assert process.stdout.readline() == "begins\n"
        assert process.stdout.readline() == "loads\n"
        os.killpg(process.pid, signal.SIGINT)
        _, messages = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert messages.count("Traceback") == 1


def killed_while_it_listens(_inside, _handler, path):
    with ringbell.listen(path):
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_left_of_its_name_is_removed(path, method):
    parcel = Parcel("handler", launched.does)
    started = worker.Worker("device", killed_while_it_listens, parcel, method, path=path)
    with pytest.raises(RuntimeError, match="SIGKILL before it was ready"):
        started.wait_until_ready(None)
    started.close()
    assert list(path.parent.iterdir()) == []


def test_the_name_of_a_live_process_is_not_removed(path):
    with ringbell.listen(path):
        control_socket.free_name(path)
        assert len(list(path.parent.iterdir())) == 2  # the socket and its lock


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGALRM])
def test_a_signal_as_a_process_starts_is_raised_and_ends_it(monkeypatch, method, end):
    """SIGINT is held back until the start is over; another signal raises inside of it."""
    started = []
    start = multiprocessing.process.BaseProcess.start

    def start_and_signal(process):
        start(process)
        started.append(process.pid)
        signal.raise_signal(end)

    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start_and_signal)
    before = signal.signal(end, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), ringbell.launch(launched.does, start_method=method):
            pass
    finally:
        signal.signal(end, before)
    assert has_ended(*started)


def test_a_block_that_is_never_left_does_not_hold_up_the_end_of_the_program(tmp_path, method):
    script = """
if __name__ == "__main__":
    launching = ringbell.launch(launched.does, start_method=sys.argv[1])
    driver = launching.__enter__()
    print(driver.call(b"pid").decode(), flush=True)
    keep = launching, driver
    threading.keep = keep
"""
    with run_script(script, tmp_path, method) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    wait_until(lambda: has_ended(int(out)))


def test_a_second_signal_does_not_disturb_the_cleaning_up(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "GRACE", 60)
    begun = tmp_path / "begun"
    with (
        pytest.raises(ringbell.PeerLost),
        ringbell.launch(launched.does) as driver,
    ):
        device = pid_of(driver)
        token = driver.submit(f"cleanup {begun}".encode())
        wait_until(begun.exists)
        os.kill(device, signal.SIGINT)  # does nothing there
        os.kill(device, signal.SIGTERM)
        assert driver.reap().token == token
    assert not begun.exists()


def test_two_threads_end_a_process_at_once(path):
    """As a pool does: one thread signals its workers while the other parts with them."""
    errors = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(20):
            parcel = Parcel("handler", launched.does)
            where = path.with_name(f"{number}.sock")
            started = worker.Worker("device", serve_parent, parcel, "fork", path=where, cpu=None)
            started.wait_until_ready(None)

            def signal_it(started=started):
                try:
                    while not started.over:
                        started.send_signal(signal.SIGTERM)
                    started.send_signal(signal.SIGTERM)
                except Exception as error:
                    errors.append(error)

            thread = threading.Thread(target=signal_it)
            thread.start()
            started._give_up()
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
