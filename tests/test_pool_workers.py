# SPDX-License-Identifier: MIT
"""Workers of a pool that die, and those that cannot be started."""

import itertools
import os
import random
import signal
import threading

import launched
import pytest
from pooled import numbers, outcomes
from processes import LAUNCHES, wait_until

import ringbell

pytestmark = LAUNCHES


def sweep():
    """Remove the name of a worker that was killed just after it had met its driver."""
    ringbell.listen("sweep").close()


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
def test_what_cannot_be_started_is_told(handler, options, error, text, caplog):
    before = threading.active_count()
    with pytest.raises(error, match=text.replace("'", ".")):
        ringbell.Pool(handler, **{"workers": 2, **options})
    assert threading.active_count() == before
    assert not caplog.records  # the error says it all


def test_a_worker_that_takes_too_long_to_start_is_ended(tmp_path, monkeypatch):
    (tmp_path / "slow.py").write_text("import signal; signal.pause()")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TimeoutError, match="the worker's process was not ready"):
        ringbell.Pool("slow:f", 2, timeout=0.5)
