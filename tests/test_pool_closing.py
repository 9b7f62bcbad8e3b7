# SPDX-License-Identifier: MIT
"""How a pool ends: its block, a close, Ctrl-C, the end of its parent, a fork."""

import copy
import gc
import itertools
import os
import signal
import threading
import weakref

import launched
import pytest
from pooled import numbers, outcomes
from processes import LAUNCHES, METHODS, has_ended, interruption, run_script, wait_until

import ringbell
from ringbell.launching import crew, worker

pytestmark = LAUNCHES


def test_the_end_of_the_block_waits_for_what_was_submitted(tmp_path, method):
    with ringbell.Pool(launched.does, 2, start_method=method) as pool:
        pids = pool.pids
        futures = [pool.submit(f"append {tmp_path}/file".encode()) for _ in range(10)]
    assert (tmp_path / "file").read_text() == "x" * 10
    assert all(future.done() for future in futures)
    assert all(map(has_ended, pids))


@pytest.mark.parametrize("request_text", ["begin", "hog"])
def test_an_exception_ends_busy_workers(tmp_path, request_text, method, monkeypatch):
    monkeypatch.setattr(worker, "GRACE", 0.2)
    monkeypatch.setattr(crew, "GRACE", 0.2)
    with (
        pytest.raises(InterruptedError),
        ringbell.Pool(launched.does, 2, start_method=method) as pool,
    ):
        pids = pool.pids
        busy = pool.submit(f"{request_text} {tmp_path}/begun".encode())
        wait_until((tmp_path / "begun").exists)
        raise InterruptedError
    assert all(map(has_ended, pids))
    with pytest.raises(ringbell.ChannelClosed, match="this pool has been closed"):
        busy.result()


def test_a_worker_that_dies_while_the_pool_is_stopped(tmp_path):
    with ringbell.Pool(launched.does, 2) as pool:
        busy = pool.submit(f"begin {tmp_path}/begun".encode())
        wait_until((tmp_path / "begun").exists)
        free = int(pool.submit(b"pid").result())
        pool._crew._stops = True  # as `stop` does, before it wakes the pool's thread
        os.kill((set(pool.pids) - {free}).pop(), signal.SIGKILL)
        with pytest.raises(ringbell.ChannelClosed, match="this pool has been closed"):
            busy.result()


def test_a_closed_pool_says_so(method):
    pool = ringbell.Pool(launched.does, 2, start_method=method)
    answers = pool.map(b"echo %d" % i for i in range(10**9))
    assert next(answers) == b"0"
    pool.close()
    pool.close()
    with pytest.raises(ringbell.ChannelClosed, match="this pool has been closed"):
        pool.submit(b"echo a")
    with pytest.raises(ringbell.ChannelClosed, match="this pool has been closed"):
        pool.map([])
    with pytest.raises(ringbell.ChannelClosed):
        list(answers)
    assert repr(pool) == "<ringbell.Pool, 0 workers>"


def test_any_thread_and_any_callback_may_close(tmp_path):
    pool = ringbell.Pool(launched.does, 2)
    release = tmp_path / "release"
    answers = pool.map([f"until {release}".encode()])
    closing = threading.Thread(target=pool.close)
    taking = threading.Thread(target=lambda: next(answers))
    taking.start()
    closing.start()
    release.touch()
    taking.join()
    closing.join()
    pool = ringbell.Pool(launched.does, 2)
    pids = pool.pids
    pool.submit(b"echo a").add_done_callback(lambda _: pool.close())
    wait_until(lambda: all(map(has_ended, pids)))
    pool.close()


def test_a_signal_handler_may_close():
    pool = ringbell.Pool(launched.does, 2)
    before = signal.signal(signal.SIGUSR1, lambda *_: pool.close())
    try:
        for answer in outcomes(pool.map(b"echo %d" % i for i in range(10**9))):
            if answer == b"100":
                os.kill(os.getpid(), signal.SIGUSR1)
        assert isinstance(answer, ringbell.ChannelClosed)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_ends_the_block_once(tmp_path):
    script = f"""
if __name__ == "__main__":
    try:
        with ringbell.Pool(launched.does, 2) as pool:
            print(*pool.pids, flush=True)
            list(pool.map([b"begin {tmp_path}/begun"]))
    except KeyboardInterrupt:
        print("interrupted")
"""
    with run_script(script, tmp_path, start_new_session=True) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        wait_until((tmp_path / "begun").exists)
        os.killpg(process.pid, signal.SIGINT)
        out, messages = process.communicate()
    assert (process.returncode, out, messages) == (0, "interrupted\n", "")
    assert all(map(has_ended, pids))


@pytest.mark.parametrize("start_method", METHODS)
def test_nothing_is_left_when_the_parent_is_killed(tmp_path, start_method):
    script = f"""
if __name__ == "__main__":
    with ringbell.Pool(launched.does, 2, start_method={start_method!r}) as pool:
        print(*pool.pids, flush=True)
        list(pool.map([b"hog {tmp_path}/begun"] + [b"echo a"] * 100))
"""
    with run_script(script, tmp_path) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        wait_until((tmp_path / "begun").exists)
        process.kill()
        process.communicate()
    wait_until(lambda: all(map(has_ended, pids)))


def test_a_pool_that_nobody_closes_ends_with_the_script(tmp_path):
    script = """
if __name__ == "__main__":
    pool = ringbell.Pool(launched.does, 2)
    print(*pool.pids, flush=True)
    print(pool.submit(b"echo a").result())
"""
    with run_script(script, tmp_path) as process:
        out, messages = process.communicate()
    pids, answer = out.splitlines()
    assert (process.returncode, answer, messages) == (0, "b'a'", "")
    assert all(has_ended(int(pid)) for pid in pids.split())


def test_a_forked_child_leaves_the_pool_to_its_parent(pool):
    answers = pool.map(numbers(1000))
    assert next(answers) == b"0"
    child = os.fork()
    if not child:
        code = 1
        try:
            for step in (lambda: pool.submit(b"a"), lambda: list(answers), lambda: pool.map([])):
                with pytest.raises(ringbell.ChannelClosed, match="forked from"):
                    step()
            pool.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(answers) == [b"%d" % i for i in range(1, 1000)]


def test_no_descriptors_and_no_threads_are_left(method):
    def count():
        gc.collect()
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def use():
        with ringbell.Pool(launched.does, 2, start_method=method) as pool:
            pool.submit(b"exit 1").exception()
            list(pool.map(numbers(10)))
        with pytest.raises(ValueError):
            ringbell.Pool("launched:no", 2, start_method=method)

    use()  # and what multiprocessing needs once
    before = count()
    use()
    assert count() == before


def test_a_pool_can_be_collected_when_it_is_closed():
    with ringbell.Pool(launched.upper, 1) as pool:
        list(pool.map([b"a"]))
        crew = weakref.ref(pool._crew)
    del pool
    gc.collect()
    assert crew() is None


def test_a_pool_cannot_be_copied(pool):
    with pytest.raises(TypeError, match="a Pool cannot be copied"):
        copy.copy(pool)
    with pytest.raises(TypeError, match="the answers of a Pool cannot be copied"):
        copy.copy(pool.map([]))


def test_an_interrupt_at_any_place_neither_hangs_nor_mixes_the_answers_up():
    with ringbell.Pool(launched.does, 2) as pool:
        for number in itertools.count(1):
            answers = pool.map(numbers(5))
            got = []
            with interruption(number) as interrupted:
                got.extend(answers)
            got.extend(answers)
            assert got == [b"%d" % i for i in range(len(got))]
            if not interrupted.happened:
                break
            assert pool.submit(b"echo on").result() == b"on"
        assert len(got) == 5
