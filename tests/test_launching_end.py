# SPDX-License-Identifier: MIT
"""How a launched device ends: with its block, its parent, a signal, or a close."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading

import launched
import pytest
from launched import pid_of
from processes import LAUNCHES, has_ended, run_script, wait_until

import ringbell
from ringbell.launching import worker
from ringbell.launching.device import serve_parent
from ringbell.launching.parcel import Parcel
from ringbell.meeting import control_socket

pytestmark = LAUNCHES


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


def test_what_a_killed_process_left_of_its_name_is_removed(path, method):
    parcel = Parcel("handler", launched.does)
    started = worker.Worker("device", launched.killed_while_it_listens, parcel, method, path=path)
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
