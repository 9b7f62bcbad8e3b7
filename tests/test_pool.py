# SPDX-License-Identifier: MIT
"""A pool of workers, each a device in a process of its own: its answers, and where they stand."""

import concurrent.futures
import contextlib
import itertools
import os
import threading

import launched
import numpy as np
import pytest
from pooled import numbers, outcomes
from processes import LAUNCHES, wait_until

import ringbell

pytestmark = LAUNCHES


# ---- answers ----


def test_map_gives_the_answers_in_order(method):
    with ringbell.Pool(launched.upper, 2, start_method=method) as pool:
        payloads = [b"a%d" % i for i in range(3000)]
        assert list(pool.map(payloads)) == [p.upper() for p in payloads]
        assert list(pool.map([])) == []


def test_imap_unordered_gives_every_answer_once(pool):
    payloads = numbers(3000)
    assert sorted(pool.imap_unordered(payloads)) == sorted(p[5:] for p in payloads)


def test_all_workers_work_at_once(method, tmp_path):
    with ringbell.Pool(launched.does, 3, start_method=method) as pool:
        assert len(set(pool.pids)) == 3
        assert os.getpid() not in pool.pids
        # Each answers only when the other two have come, too.
        payloads = [f"meet 3 {i} {tmp_path}".encode() for i in range(3)]
        assert list(pool.map(payloads)) == [b"0", b"1", b"2"]


def test_a_slow_request_holds_up_no_other(pool, tmp_path):
    assert len(list(pool.map(numbers(1000)))) == 1000  # now both are given many at once
    release = tmp_path / "release"
    slow = pool.submit(f"until {release}".encode())
    wait_until((tmp_path / "release.begun").exists)
    assert len(list(pool.map(numbers(1000)))) == 1000
    release.touch()
    assert slow.result() == b""


def test_the_payloads_may_be_endless(pool):
    drawn = 0

    def source():
        nonlocal drawn
        for i in itertools.count():
            drawn += 1
            yield b"echo %d" % i

    answers = pool.map(source())
    assert drawn == 0
    assert list(itertools.islice(answers, 1000)) == [b"%d" % i for i in range(1000)]
    assert drawn <= 1000 + 2 * 128 * 2


def test_depth_bounds_what_is_drawn():
    drawn = []
    with ringbell.Pool(launched.does, 2, depth=1) as pool:
        answers = pool.map(drawn.append(i) or b"echo %d" % i for i in itertools.count())
        next(answers)
        assert len(drawn) <= 5


def test_submit_gives_a_future(pool):
    future = pool.submit(b"echo one")
    assert isinstance(future, concurrent.futures.Future)
    assert future.result() == b"one"
    futures = [pool.submit(payload) for payload in numbers(500)]
    concurrent.futures.wait(futures)
    assert [future.result() for future in futures] == [b"%d" % i for i in range(500)]


def test_a_callback_may_submit_and_may_fail(pool, caplog, tmp_path):
    second = []
    called = threading.Event()

    def callback(future):
        second.append(pool.submit(b"echo again" + future.result()))
        called.set()
        raise SystemExit

    release = tmp_path / "release"
    pool.submit(f"until {release}".encode()).add_done_callback(callback)
    release.touch()
    called.wait()
    assert second[0].result() == b"again"
    assert "a callback of a future of the pool failed" in caplog.text


def test_a_future_can_be_cancelled_until_it_is_sent(tmp_path):
    release = tmp_path / "release"
    with ringbell.Pool(launched.does, 1, depth=1) as pool:
        busy = pool.submit(f"until {release}".encode())
        wait_until(busy.running)
        waiting = pool.submit(b"echo never")
        assert waiting.cancel()
        assert not busy.cancel()
        release.touch()
        assert busy.result() == b""
        assert pool.submit(b"echo on").result() == b"on"
    assert waiting.cancelled()


def test_records_are_payloads_and_long_ones_too(pool):
    rows = np.arange(1000, dtype="i8")
    (answer,) = pool.map([np.frombuffer(b"echo " + rows.tobytes(), "u1")])
    assert np.frombuffer(answer, "i8").sum() == rows.sum()
    long = b"echo " + os.urandom(3 << 20)  # longer than the ring
    assert list(pool.map([long] * 6)) == [long[5:]] * 6


def test_many_long_payloads_fill_the_ring_and_nothing_stops():
    with ringbell.Pool(launched.upper, 2, ring_size=1 << 16) as pool:
        payloads = [bytes([97 + i % 20]) * 9000 for i in range(500)]
        assert list(pool.map(payloads)) == [p.upper() for p in payloads]


def test_several_threads_use_a_pool_at_once(pool):
    def task(first):
        assert list(pool.map(numbers(1000))) == [b"%d" % i for i in range(1000)]
        return pool.submit(b"echo %d" % first).result()

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        assert list(threads.map(task, range(6))) == [b"%d" % i for i in range(6)]


def test_workers_run_on_their_cpus():
    cpus = sorted(os.sched_getaffinity(0))
    with ringbell.Pool(launched.does, 2, cpus=cpus[:1]) as pool:
        assert set(pool.map([b"cpus"] * 50)) == {f"[{cpus[0]}]".encode()}
    with ringbell.Pool(launched.does, cpus=cpus) as pool:
        assert len(pool.pids) == len(cpus)


# ---- at their places ----


def test_what_a_handler_raises_stands_at_its_place(pool):
    payloads = [b"echo a", b"raise bad", b"echo b", b"raise worse"]
    got = list(outcomes(pool.map(payloads)))
    assert got[::2] == [b"a", b"b"]
    assert [type(error) for error in got[1::2]] == [ringbell.RequestFailed] * 2
    assert "ValueError: worse" in str(got[3])
    with pytest.raises(ringbell.RequestFailed, match="ValueError: no"):
        pool.submit(b"raise no").result()


def test_what_is_no_buffer_is_told_at_its_place(pool):
    answers = pool.map([b"echo a", "text", b"echo b"])
    assert next(answers) == b"a"
    with pytest.raises(TypeError):
        next(answers)
    assert next(answers) == b"b"
    with pytest.raises(TypeError):
        pool.submit(5).result()


def test_what_the_payloads_raise_ends_the_map(pool):
    def source():
        yield b"echo a"
        raise ZeroDivisionError

    answers = pool.map(source())
    with pytest.raises(ZeroDivisionError):
        list(answers)
    assert list(answers) == []
    with pytest.raises(TypeError):
        pool.map(5)


def test_a_step_waits_no_longer_than_its_timeout(pool, tmp_path):
    release = tmp_path / "release"
    answers = pool.map([f"until {release}".encode(), b"echo a"], timeout=0.01)
    with pytest.raises(ringbell.RingEmpty):
        next(answers)
    release.touch()
    wait_until(lambda: "" in got_from(answers))
    with pytest.raises(ValueError, match="timeout"):
        pool.map([], timeout=-1)


def got_from(answers):
    with contextlib.suppress(ringbell.RingEmpty):
        return {next(answers).decode()}
    return {}


def test_what_is_dropped_is_not_sent(tmp_path):
    release = tmp_path / "release"
    with ringbell.Pool(launched.does, 1, depth=1) as pool:
        answers = pool.map([f"until {release}".encode(), *[b"exit 1"] * 2], timeout=0)
        with pytest.raises(ringbell.RingEmpty):
            next(answers)
        answers.close()
        release.touch()
        assert pool.submit(b"echo a").result() == b"a"


def test_a_second_thread_cannot_take_from_the_same_map(pool, tmp_path):
    release = tmp_path / "release"
    entered = threading.Event()

    def source():
        entered.set()
        wait_until(release.exists)
        yield b"echo a"

    answers = pool.map(source())
    thread = threading.Thread(target=list, args=(answers,))
    thread.start()
    entered.wait()
    with pytest.raises(ValueError, match="already executing"):
        next(answers)
    release.touch()
    thread.join()
