# SPDX-License-Identifier: MIT
"""Pipe between processes: how an end gets there, whose it is, and how it ends."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
from multiprocessing import reduction
from multiprocessing.connection import wait

import piped
import pytest
from piped import end_of, passed_on
from processes import state_of, wait_until

RING = 4096


# ---- there and back ----


def test_a_child_answers_messages_and_objects(pipe, run):
    mine, process = passed_on(pipe, run, piped.echo)
    for size in (0, 1, 64, 4096, 3_000_000):
        message = os.urandom(size)
        mine.send_bytes(message)
        assert mine.recv_bytes() == message
    mine.send_bytes(b"end")
    for obj in (None, [1, {"a": (2.5, "text")}], b"x" * 500_000):
        mine.send(obj)
        assert mine.recv() == obj
    mine.close()
    process.join()
    assert process.exitcode == 0


def test_a_process_may_get_both_ends(pipe, run):
    one, other = pipe()
    result, told = multiprocessing.Pipe(duplex=False)
    with result, told:
        run(piped.pass_around, one, other, result=told)
        assert result.recv() == "round"
    one.close()
    other.close()


def test_one_way_either_way(pipe, run):
    for which in (0, 1):
        ends = pipe(duplex=False)
        mine, other = ends[which], ends[1 - which]
        if which == 0:
            run(piped.send_all, other, [1, 2, 3])
            other.close()
            assert [mine.recv() for _ in range(3)] == [1, 2, 3]
            assert end_of(mine)
        else:
            process = run(piped.take_all, other, 3)
            other.close()
            for number in range(3):
                mine.send(number)
            process.join()
            assert process.exitcode == 3


def test_wait_finds_an_entry_each_time_that_it_ends(pipe, run):
    ends = [passed_on(pipe, run, piped.send_slowly, 10_000, duplex=False)[0] for _ in range(2)]
    taken = dict.fromkeys(ends, 0)

    def take(end):
        try:
            assert end.recv_bytes() == b"%d" % taken[end]
        except EOFError:
            ends.remove(end)
        else:
            taken[end] += 1

    while ends:
        for end in wait(ends):
            assert end.poll(), "it is readable, and there is nothing to take"
            take(end)
            if end in ends and taken[end] % 10 == 0:
                take(end)  # it may have to wait for that one, and finds it before the chime
    assert set(taken.values()) == {10_000}


# ---- whose it is ----


def test_a_copy_that_was_made_before_the_first_use_is_refused_after_it(pipe, run):
    mine, other = pipe()
    result, told = multiprocessing.Pipe(duplex=False)
    go, wait_for = multiprocessing.Pipe()
    with result, told, go, wait_for:
        run(piped.try_when_told, other, wait_for, "recv", result=told)
        mine.send("for the first")
        assert other.recv() == "for the first"
        go.send(None)
        kind, text = result.recv()
        assert kind is OSError
        assert "another process uses this connection" in text
    mine.send("still here")
    assert other.recv() == "still here"


def test_polling_is_no_use_of_an_end(pipe, run):
    mine, other = pipe()
    result, told = multiprocessing.Pipe(duplex=False)
    with result, told:
        mine.send("for here")
        run(piped.try_to, other, "poll", 30, result=told)
        assert result.recv() is True
    assert other.recv() == "for here"


def test_a_copy_that_is_dropped_changes_nothing(pipe, run):
    mine, other = pipe()
    result, told = multiprocessing.Pipe(duplex=False)
    with result, told:
        process = run(piped.leave, other, told)
        assert result.recv() == "dropped"
        process.join()
    mine.send(1)
    assert other.recv() == 1
    other.send(2)
    assert mine.recv() == 2


@pytest.mark.parametrize("used", [False, True])
def test_a_forked_child_that_only_inherits_changes_nothing(pipe, used):
    mine, other = pipe()
    if used:
        mine.send(0)
        assert other.recv() == 0
    child = os.fork()
    if not child:
        try:
            mine.close()
            if used:
                with pytest.raises(OSError, match="handle is closed"):
                    mine.send(1)
                with pytest.raises(OSError, match="forked from"):
                    other.recv()
                with pytest.raises(OSError, match="forked from"):
                    other.poll()
                with pytest.raises(OSError, match="forked from"):
                    other.fileno()
            del other
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    mine.send(1)
    assert other.recv() == 1
    assert not mine.poll()


# ---- how it ends ----


def test_what_was_sent_before_a_kill_is_received(pipe, run):
    mine, process = passed_on(pipe, run, piped.send_and_die, list(range(100)))
    process.join()
    assert [mine.recv() for _ in range(100)] == list(range(100))
    assert end_of(mine)
    with pytest.raises(BrokenPipeError):
        for _ in range(100):
            mine.send(1)


def test_a_child_that_ends_without_a_use_is_the_end_of_the_file(pipe, run):
    mine, process = passed_on(pipe, run, piped.wait_for_ever)
    thread = threading.Timer(0.05, process.kill)
    thread.start()
    assert mine.poll(None)  # it sleeps until then
    assert end_of(mine)
    thread.join()


def test_a_sender_that_waits_for_room_learns_that_its_reader_died(pipe, run):
    mine, process = passed_on(pipe, run, piped.receive_one_and_wait, ring_size=RING)
    mine.send("first")

    def kill():
        wait_until(lambda: mine._channel and mine._channel.stats().driver.producer.sleeps)
        process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(BrokenPipeError):
        while True:
            mine.send_bytes(b"x" * 1000)
    thread.join()


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_sender_that_never_waits_learns_that_its_reader_is_gone(pipe, run, how):
    mine, process = passed_on(pipe, run, piped.wait_for_ever)
    mine.send(0)
    process.kill()
    process.join()
    with pytest.raises(BrokenPipeError):
        for _ in range(100):
            mine.send(1)


def test_a_receiver_that_sleeps_learns_that_its_sender_died(pipe, run):
    mine, process = passed_on(pipe, run, piped.wait_for_ever)

    def kill():
        wait_until(lambda: mine._channel and mine._channel.stats().driver.consumer.sleeps)
        process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    assert end_of(mine)
    thread.join()


def test_killed_at_any_time_it_ends_for_the_other(pipe, run):
    for pause in (0, 0.001, 0.003, 0.01):
        mine, process = passed_on(pipe, run, piped.send_for_ever, ring_size=RING)
        first = mine.recv()
        time.sleep(pause)  # not to wait for something, but to kill at another moment
        process.kill()
        last = first
        with pytest.raises(EOFError):
            while True:
                got = mine.recv()
                assert got[0] == last[0] + 1
                last = got


def test_ctrl_c_in_a_child_ends_its_wait(pipe, run):
    mine, process = passed_on(pipe, run, piped.receive_until_interrupted)
    assert mine.recv() == "ready"
    wait_until(lambda: state_of(process.pid) == "S")
    os.kill(process.pid, signal.SIGINT)
    assert mine.recv() == "interrupted"
    mine.send("and on")
    assert mine.recv() == "and on"
    process.join()


# ---- passing on ----


@pytest.mark.usefixtures("sharer")
def test_an_end_goes_through_another_connection(pipe, run):
    mine, process = passed_on(pipe, run, piped.pass_back)
    other = mine.recv()
    with other:
        other.send([1])
        assert other.recv() == [1, 1]
        assert end_of(other)
    process.join()
    assert process.exitcode == 0


@pytest.mark.usefixtures("sharer")
def test_an_end_goes_through_a_queue_and_to_a_process_that_is_there(pipe, run):
    mine, process = passed_on(pipe, run, piped.use_what_comes)
    one, other = pipe()
    mine.send(other)
    other.close()
    one.send(["seen here"])
    assert one.recv() == ["seen here", "seen"]
    assert end_of(one)
    process.join()


def test_an_end_goes_to_the_worker_of_a_pool(pipe, method):
    mine, other = pipe()
    context = multiprocessing.get_context(method)
    with context.Pool(1, piped.keep, (other,)) as pool:
        other.close()
        pids = pool.map(piped.use_kept, ["a", "b", "c"])
        assert [mine.recv() for _ in "abc"] == ["a", "b", "c"]
        assert os.getpid() not in pids
        pool.close()
        pool.join()
    assert end_of(mine)


def test_an_end_that_was_used_or_closed_is_not_passed_on(pipe):
    one, other = pipe()
    one.send(1)
    with pytest.raises(RuntimeError, match="before its first send or recv"):
        pickle.dumps(one)
    with pytest.raises(RuntimeError, match="before its first send or recv"):
        multiprocessing.get_context("spawn").Process(target=print, args=(one,)).start()
    other.close()
    with pytest.raises(OSError, match="handle is closed"):
        pickle.dumps(other)


def test_descriptors_go_through_it_between_objects(pipe, run, tmp_path):
    mine, process = passed_on(pipe, run, piped.write_to_passed)
    path = tmp_path / "written"
    with path.open("wb") as file:
        for text in (b"one ", b"two ", b"three"):
            mine.send(text)
            reduction.send_handle(mine, file.fileno(), process.pid)
            assert mine.recv() == len(text)
    assert path.read_bytes() == b"one two three"
