# SPDX-License-Identifier: MIT
"""A pool of workers, each a device in a process of its own."""

import concurrent.futures
import contextlib
import copy
import gc
import itertools
import os
import random
import signal
import threading
import weakref

import launched
import numpy as np
import pytest
from processes import METHODS, has_ended, interruption, run_script, wait_until

import ringbell
from ringbell.launching import crew, worker

# The thread of a pool, and those that NumPy may have; from Python 3.12 on, a fork warns of them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
    pytest.mark.usefixtures("names"),
]


@pytest.fixture
def pool():
    made = ringbell.Pool(launched.does, 2)
    yield made
    made._give_up()  # a test that fails may leave it busy


def numbers(count):
    return [b"echo %d" % i for i in range(count)]


def sweep():
    """Remove the name of a worker that was killed just after it had met its driver."""
    ringbell.listen("sweep").close()


def outcomes(answers):
    """Take all of them; exceptions stand at their places."""
    while True:
        try:
            yield next(answers)
        except StopIteration:
            return
        except ringbell.RingbellError as error:
            yield error


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


# ---- workers that die ----


def test_a_lost_request_stands_at_its_place(method, caplog):
    with ringbell.Pool(launched.does, 2, start_method=method, depth=1) as pool:
        got = list(outcomes(pool.map([b"echo a", b"exit 3", *numbers(100)])))
        assert got[0] == b"a"
        assert isinstance(got[1], ringbell.PeerLost)
        assert "the worker died before it answered this request" in str(got[1])
        assert got[2:] == [b"%d" % i for i in range(100)]
        wait_until(lambda: len(pool.pids) == 2)
    assert "ended with exit code 3" in caplog.text


def test_an_idle_worker_that_dies_is_replaced(method):
    with ringbell.Pool(launched.does, 2, start_method=method) as pool:
        before = pool.pids
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: before[0] not in pool.pids and len(pool.pids) == 2)
        assert len(list(pool.map(numbers(100)))) == 100
    sweep()


def test_requests_are_given_to_another_worker_if_that_is_asked_for(tmp_path):
    with ringbell.Pool(launched.does, 2, retry=True) as pool:
        once = f"once {tmp_path}/died".encode()  # kills the first worker that gets it
        got = list(pool.map([b"echo a", once, *numbers(500)]))
        assert got == [b"a", b"survived", *(b"%d" % i for i in range(500))]


def test_no_worker_left_is_told(caplog):
    with ringbell.Pool(launched.does, 2, retry=True, restarts=2) as pool:
        future = pool.submit(b"exit 4")
        with pytest.raises(ringbell.PeerLost, match=r"no worker of this pool is left.*2 times"):
            future.result()
        with pytest.raises(ringbell.PeerLost, match="no worker of this pool is left"):
            pool.submit(b"echo a")
        with pytest.raises(ringbell.PeerLost, match="no worker of this pool is left"):
            pool.map([b"echo a"])
        assert pool.pids == []
    assert caplog.text.count("exit code 4") == 4


def test_a_map_ends_when_no_worker_is_left():
    with ringbell.Pool(launched.does, 1, restarts=0) as pool:
        got = outcomes(pool.map(itertools.chain([b"exit 1"], itertools.repeat(b"echo a"))))
        assert {type(one) for one in got} == {ringbell.PeerLost}


def test_a_worker_that_cannot_be_started_again_is_told(tmp_path, monkeypatch):
    (tmp_path / "fragile.py").write_text(
        "import os, pathlib\n"
        "begun = pathlib.Path(__file__).with_name('begun')\n"
        "if begun.exists(): os._exit(5)\n"
        "begun.touch()\n"
        "def dies(payload): os._exit(6)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with (
        ringbell.Pool("fragile:dies", 1, retry=True, restarts=3) as pool,
        pytest.raises(ringbell.PeerLost, match="exit code 5 before it was ready"),
    ):
        pool.submit(b"").result()


@pytest.mark.parametrize("retry", [True, False])
def test_every_answer_is_counted_while_workers_are_killed(retry, method):
    count, kills = 20_000, 12
    chance = random.Random(5)
    with ringbell.Pool(launched.does, 3, retry=retry, restarts=1000, start_method=method) as pool:
        got = []
        answers = outcomes(pool.map(b"echo %d" % i for i in range(count)))
        for one in answers:
            got.append(one)
            if len(got) % (count // kills) == 0 and pool.pids:
                os.kill(chance.choice(pool.pids), signal.SIGKILL)
        assert len(got) == count
        lost = [one for one in got if isinstance(one, Exception)]
        assert {type(one) for one in lost} <= {ringbell.PeerLost}
        assert not (lost and retry)
        assert all(one in lost or one == b"%d" % i for i, one in enumerate(got))
    sweep()


# ---- what cannot be started ----


@pytest.mark.parametrize(
    ("handler", "options", "error", "text"),
    [
        (5, {}, TypeError, "the handler is a function or"),
        ("launched:nothing", {}, ValueError, "module 'launched' has no 'nothing'"),
        (lambda payload: b"", {}, TypeError, "the handler cannot be sent to a new process"),
        (launched.upper, {"workers": 0}, ValueError, "workers is how many processes, at least 1"),
        (launched.upper, {"workers": "2"}, TypeError, "workers is how many processes"),
        (launched.upper, {"depth": 0}, ValueError, "depth is how many requests, at least 1"),
        (launched.upper, {"restarts": -1}, ValueError, "restarts is how many workers"),
        (launched.upper, {"cpus": 1}, TypeError, "cpus names one CPU or several"),
        (launched.upper, {"cpus": []}, TypeError, "cpus names one CPU or several"),
        (launched.upper, {"cpus": [9999]}, ValueError, "cpu is the number of a CPU"),
        (launched.upper, {"polling": "often"}, ValueError, "polling is one of adaptive, never"),
        (launched.upper, {"ring_size": 5}, ValueError, "ring_size is a power of two"),
        (launched.upper, {"start_method": "vfork"}, ValueError, "start_method is one of spawn"),
        (launched.upper, {"timeout": -1}, ValueError, "timeout"),
    ],
)
def test_what_cannot_be_started_is_told(handler, options, error, text):
    before = threading.active_count()
    with pytest.raises(error, match=text.replace("'", ".")):
        ringbell.Pool(handler, **{"workers": 2, **options})
    assert threading.active_count() == before


def test_a_worker_that_takes_too_long_to_start_is_ended(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import signal; signal.pause()")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TimeoutError, match="the worker's process was not ready"):
        ringbell.Pool("slow:f", 2, timeout=0.5)


# ---- how it ends ----


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
