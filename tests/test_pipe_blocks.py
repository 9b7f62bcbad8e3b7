# SPDX-License-Identifier: MIT
"""Pipe with blocks: large objects by reference, held by whoever has received them."""

import gc
import multiprocessing
import os
import re
import resource
import signal
import threading
from multiprocessing import BufferTooShort
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import piped
import pytest
from piped import LENGTH, end_of, passed_on
from processes import wait_until

import ringbell
from ringbell._ffi import lib

SIZE = 4 * LENGTH
# An array takes a page more than SIZE in its block, so three have room. No ring has that size.
POOL = 4 * SIZE + 3 * 4096
BLOCKS = ringbell.Blocks(pool=POOL, least=SIZE // 2)
WAITS = ringbell.Blocks(pool=POOL, least=SIZE // 2, when_lent="wait")


def array(number, length=LENGTH):
    return np.full(length, number, "u4")


def sent(connection):
    """Count what this end has sent by reference."""
    stats = connection._channel.stats()
    side = stats.driver if connection._side == lib.RB_DRIVER else stats.device
    return side.blocks


def pools():
    """Count the pools that this process has mapped."""
    maps = Path("/proc/self/maps").read_text()
    found = re.findall(r"^(\w+)-(\w+) .*memfd:ringbell", maps, re.MULTILINE)
    return sum(int(stop, 16) - int(start, 16) == POOL for start, stop in found)


# ---- there and back ----


def test_large_arrays_go_both_ways_by_reference(pipe, run):
    mine, process = passed_on(pipe, run, piped.answer_with_twice, blocks=WAITS)
    for number in range(20):
        mine.send(array(number))
        got = mine.recv()
        assert (got == 2 * number).all()
        assert not got.flags.writeable
        del got
    assert sent(mine).sent == mine._channel.stats().device.blocks.sent == 20
    mine.close()
    process.join()
    assert process.exitcode == 0


def test_what_is_small_goes_through_the_ring_and_is_the_receivers_own(pipe):
    one, other = pipe(blocks=BLOCKS)
    one.send({"small": array(1, 2000), "text": "x" * 5000})
    got = other.recv()
    got["small"][:] = 2
    assert sent(one) == ringbell.BlockCounters(sent=0, copied=0, lent=0)


@pytest.mark.parametrize("which", [0, 1])
def test_one_way_either_way(pipe, run, which):
    ends = pipe(False, blocks=BLOCKS)
    mine, other = ends[which], ends[1 - which]
    if which == 0:
        run(piped.send_all, other, [array(1), array(2), "end"])
        other.close()
        first, second = mine.recv(), mine.recv()
        assert mine.recv() == "end"
        assert end_of(mine)
        assert (first == 1).all()
        assert (second == 2).all()
        assert not second.flags.writeable
    else:
        process = run(piped.take_all, other, 2)
        other.close()
        mine.send(0)
        mine.send(1)
        process.join()
        assert process.exitcode == 2


def test_a_process_may_get_both_ends(pipe, run):
    one, other = pipe(blocks=BLOCKS)
    result, told = multiprocessing.Pipe(duplex=False)
    with result, told:
        run(piped.send_one_back, one, other, told)
        assert result.recv() == (sum(range(LENGTH)), False)
    one.close()
    other.close()


@pytest.mark.usefixtures("sharer")
def test_an_end_goes_to_a_process_that_is_there(pipe, run):
    mine, process = passed_on(pipe, run, piped.use_what_comes)
    one, other = pipe(blocks=BLOCKS)
    mine.send(other)
    other.close()
    one.send([array(3)])
    got = one.recv()
    assert got[1:] == ["seen"]
    assert (got[0] == 3).all()
    assert not got[0].flags.writeable
    assert (sent(one).sent, one._channel.stats().device.blocks.sent) == (1, 1)
    assert end_of(one)
    process.join()


def test_bytes_are_copies_and_give_their_block_back(pipe):
    one, other = pipe(blocks=WAITS)
    message, room = os.urandom(SIZE), bytearray(2 * SIZE)
    for _ in range(10):
        one.send_bytes(message)
        assert other.recv_bytes() == message
        one.send_bytes(message)
        assert other.recv_bytes_into(room, 5) == SIZE
        assert room[5 : 5 + SIZE] == message
    one.send_bytes(message)
    with pytest.raises(BufferTooShort) as caught:
        other.recv_bytes_into(bytearray(SIZE - 1))
    assert caught.value.args == (message,)
    assert sent(one).sent == 21
    one.send_bytes(message)
    with pytest.raises(OSError, match="bad message length"):
        other.recv_bytes(SIZE - 1)


def test_wait_gives_exactly_those_with_something_to_take(pipe):
    pairs = [pipe(blocks=BLOCKS) for _ in range(2)]
    readers = [reader for _, reader in pairs]
    assert wait(readers, 0) == []
    for number in range(20):
        for writer, reader in pairs:
            writer.send(array(number))
            assert wait(readers, 0) == [reader]
            assert (reader.recv() == number).all()
            assert wait(readers, 0) == []


# ---- holding ----


def test_what_is_held_lies_in_the_block_and_keeps_its_content(pipe, run):
    mine, process = passed_on(pipe, run, piped.hold_what_comes, blocks=BLOCKS)
    for number in range(3):
        mine.send(array(number))
        assert mine.recv() is False, "the array is a view of the block, read-only"
    assert sent(mine) == ringbell.BlockCounters(sent=3, copied=0, lent=3)
    for number in range(3, 6):
        mine.send(array(number))
        assert mine.recv() is True, "no block is free, so it came through the ring"
    assert sent(mine).copied == 3
    mine.send(("drop", 1))
    assert mine.recv() == [False]
    mine.send(array(7))
    assert mine.recv() is False, "in the place of the one that was given back"
    mine.send(("look",))
    assert mine.recv() == [True] * 6
    mine.send(None)
    process.join()
    assert process.exitcode == 0


def test_no_block_is_needed_for_what_is_larger_than_the_pool(pipe, run):
    mine, _ = passed_on(pipe, run, piped.answer_with_twice, blocks=BLOCKS)
    mine.send(np.arange(8 * LENGTH, dtype="u4"))
    got = mine.recv()
    assert (got == 2 * np.arange(8 * LENGTH, dtype="u4")).all()
    assert got.flags.writeable
    assert (sent(mine).sent, sent(mine).copied) == (0, 1)


def test_a_sender_waits_for_a_block_when_it_is_told_to(pipe, run):
    mine, process = passed_on(pipe, run, piped.hold_what_comes, blocks=WAITS)
    for number in range(3):
        mine.send(array(number))
        assert mine.recv() is False
    thread = threading.Thread(target=mine.send, args=(array(9),))
    mine.send(("drop", 2))  # it is taken when the thread below sleeps, or before
    thread.start()
    assert mine.recv() == [False]
    thread.join()
    assert mine.recv() is False
    assert sent(mine) == ringbell.BlockCounters(sent=4, copied=0, lent=3)
    mine.send(None)
    process.join()


def test_a_sender_that_sleeps_is_woken_by_the_block_that_comes_back(pipe):
    one, other = pipe(blocks=WAITS)
    held = []
    for number in range(3):
        one.send(array(number))
        held.append(other.recv())
    thread = threading.Thread(target=one.send, args=(array(9),))
    thread.start()
    wait_until(lambda: one._channel.stats().driver.producer.sleeps)
    assert not other.poll()
    del held[1]
    thread.join()
    assert (other.recv() == 9).all()
    assert [(held[i] == value).all() for i, value in enumerate((0, 2))] == [True] * 2


@pytest.mark.parametrize("holds", [1, 3])
def test_the_death_of_a_holder_ends_the_pipe(pipe, run, holds):
    """Its blocks need not come back: nobody else receives from this pipe."""
    mine, process = passed_on(pipe, run, piped.hold_and_answer_once, holds, blocks=WAITS)
    for number in range(holds):
        mine.send(array(number))
    assert mine.recv() == holds

    def kill():
        wait_until(lambda: holds == 1 or mine._channel.stats().driver.producer.sleeps)
        process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(BrokenPipeError):
        while True:  # with three it waits for a block, with one for the fourth
            mine.send(array(5))
    thread.join()


def test_it_stays_readable_when_its_sender_was_killed(run):
    before = pools()
    dies = piped.send_arrays_and_die
    mine, process = passed_on(ringbell.Pipe, run, dies, 3, LENGTH, blocks=BLOCKS)
    process.join()
    held = [mine.recv() for _ in range(3)]
    assert end_of(mine)
    mine.close()
    del mine
    gc.collect()
    assert not held[0].flags.writeable
    assert [(one == number).all() for number, one in enumerate(held)] == [True] * 3
    assert pools() == before + 1, "what is held keeps the pool, and it sent nothing itself"
    del held
    assert pools() == before


def test_closing_while_something_is_held_is_the_end_of_the_file(pipe, run):
    mine, process = passed_on(pipe, run, piped.send_all, [array(1), array(2)], blocks=BLOCKS)
    first = mine.recv()
    process.join()
    second = mine.recv()
    assert end_of(mine)
    mine.close()
    del mine
    gc.collect()
    assert (first == 1).all()
    assert (second == 2).all()
    del first
    assert (second == 2).all()


def test_a_forked_child_that_drops_an_array_gives_nothing_back(pipe):
    one, other = pipe(blocks=BLOCKS)
    one.send(array(1))
    held = [other.recv()]
    child = os.fork()
    if not child:
        del held[:]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for number in range(2, 9):
        one.send(array(number))
        assert (other.recv() == number).all()
    assert (held[0] == 1).all()


def test_what_cannot_be_unpickled_gives_its_block_back(pipe):
    one, other = pipe(blocks=WAITS)
    for _ in range(10):
        one.send_bytes(b"\x80nonsense" + bytes(SIZE))
        with pytest.raises(Exception, match=r"pickle|opcode|load"):
            other.recv()
    one.send(array(2))
    assert (other.recv() == 2).all()


def test_a_copy_of_an_end_that_comes_too_late_maps_nothing(pipe, run):
    mine, other = pipe(blocks=BLOCKS)
    result, told = multiprocessing.Pipe(duplex=False)
    go, wait_for = multiprocessing.Pipe()
    with result, told, go, wait_for:
        run(piped.try_when_told, other, wait_for, "recv", result=told)
        mine.send(array(1))
        held = other.recv()
        go.send(None)
        kind, text = result.recv()
        assert kind is OSError
        assert "another process uses this connection" in text
    assert (held == 1).all()


# ---- memory and descriptors ----


def used_bytes(connection):
    return [os.fstat(pool.fileno()).st_blocks * 512 for pool in connection._owned.pools]


def test_memory_is_taken_as_far_as_it_is_used(pipe):
    one, other = pipe(blocks=ringbell.Blocks(pool=1 << 30, least=SIZE))
    spare = pipe(blocks=ringbell.Blocks(pool=1 << 30))[0]
    assert used_bytes(one) == [0, 0]
    kept = [os.dup(pool.fileno()) for pool in one._owned.pools]
    try:
        one.send("small")
        assert other.recv() == "small"
        assert [os.fstat(fd).st_blocks for fd in kept] == [0, 0]
        for number in range(100):
            one.send(array(number))
            assert (other.recv() == number).all()
        bytes_used = [os.fstat(fd).st_blocks * 512 for fd in kept]
    finally:
        for fd in kept:
            os.close(fd)
    assert bytes_used[0] <= 8 << 20
    assert bytes_used[1] == 0
    assert used_bytes(spare) == [0, 0]


def test_the_pools_take_no_descriptor_that_is_not_needed(pipe):
    before = len(os.listdir("/proc/self/fd"))
    one, other = pipe(blocks=BLOCKS)
    assert len(os.listdir("/proc/self/fd")) == before + 7
    one.send(array(1))
    assert (other.recv() == 1).all()
    # Two sockets, two eventfds, and for each end the pool that it sends with.
    assert len(os.listdir("/proc/self/fd")) == before + 6
    one.close()
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_end_without_a_descriptor_says_so_and_works_later(pipe):
    one, other = pipe(blocks=BLOCKS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        with pytest.raises(OSError, match="Too many open files"):
            one.send(array(1))
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    one.send(array(1))
    assert (other.recv() == 1).all()
    assert sent(one).sent == 1


def test_a_pipe_that_is_closed_and_dropped_leaves_no_pool(run):
    before = pools()
    for _ in range(10):
        mine, process = passed_on(ringbell.Pipe, run, piped.answer_with_twice, blocks=BLOCKS)
        mine.send(array(1))
        assert (mine.recv() == 2).all()
        assert pools() == before + 2
        mine.close()
        process.join()
        del mine
        gc.collect()
        assert pools() == before


def test_without_memfd_all_goes_through_the_ring(pipe, monkeypatch):
    class Without:
        def __getattr__(self, name):
            return getattr(lib, name)

        def rb_memory_make(self, handle, kind):
            if kind == lib.RB_MEMORY_MEMFD:
                return -38  # ENOSYS
            return lib.rb_memory_make(handle, kind)

    monkeypatch.setattr("ringbell.pipes.opening.lib", Without())
    one, other = pipe(blocks=BLOCKS)
    one.send(array(1, 100))
    assert (other.recv() == 1).all()
    thread = threading.Thread(target=one.send, args=(array(2),))
    thread.start()
    got = other.recv()
    thread.join()
    assert got.flags.writeable
    assert sent(one) == ringbell.BlockCounters(sent=0, copied=0, lent=0)


@pytest.mark.parametrize("method", ["fork"])
def test_holders_that_are_killed_at_random_leave_nothing(run):
    before = pools()
    for count in range(8):
        mine, process = passed_on(ringbell.Pipe, run, piped.hold_what_comes, blocks=WAITS)
        with pytest.raises((BrokenPipeError, EOFError)):
            for number in range(10_000):
                mine.send(array(number % 3))
                mine.recv()
                if number % 3 == 2:
                    mine.send(("drop", 0, 1, 2))
                    mine.recv()
                if number == 5 * count + 7:
                    os.kill(process.pid, signal.SIGKILL)
        mine.close()
        process.join()
        del mine
        gc.collect()
        assert pools() == before


def test_bad_options_are_refused(pipe):
    with pytest.raises(TypeError, match=r"blocks is a ringbell\.Blocks or None"):
        pipe(blocks=5)
    with pytest.raises(OSError, match="no memory for a pool"):
        pipe(blocks=ringbell.Blocks(pool=1 << 46))
