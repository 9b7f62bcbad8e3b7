# SPDX-License-Identifier: MIT
"""A signal handler that raises while a connection receives loses and repeats nothing."""

import os
import sys
from multiprocessing import BufferTooShort
from multiprocessing.connection import wait

import coded
import pytest
from processes import PACKAGE, interruption

import ringbell
from ringbell.pipes.objects import unpack


def into_a_buffer(connection):
    room = bytearray(64)
    return bytes(room[: connection.recv_bytes_into(room)])


# How each takes the pickle of a number.
TAKES = {
    "recv": lambda connection: connection.recv(),
    "recv_bytes": lambda connection: unpack(connection.recv_bytes()),
    "recv_bytes_into": lambda connection: unpack(into_a_buffer(connection)),
}


@pytest.mark.parametrize("blocks", [None, ringbell.Blocks(least=1)])
@pytest.mark.parametrize("take", TAKES)
def test_an_interrupt_at_any_place_loses_and_repeats_no_object(pipe, take, blocks):
    one, other = pipe(blocks=blocks)
    other.fileno()  # it has to be told what is watched
    sent, taken = 0, []
    for place in range(1, 100):
        for _ in range(2):
            one.send(sent)
            sent += 1
        number = None
        with interruption(place) as step:
            number = TAKES[take](other)
        if number is not None:
            taken.append(number)
        if not step.happened:
            break
    while other.poll():
        taken.append(other.recv())
    assert taken == list(range(sent))
    assert place > 1
    assert wait([other], 0) == []


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("blocks", [None, ringbell.Blocks(least=1)])
def test_an_object_whose_unpickling_is_interrupted_is_received_again(
    pipe, monkeypatch, blocks, watched
):
    one, other = pipe(blocks=blocks)
    if watched:
        other.fileno()
    monkeypatch.setattr(coded, "interrupts", 0)
    one.send(coded.Interrupting())
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            other.recv()
        assert other.poll()
        assert wait([other], 0) == [other]
    assert other.recv() == "whole"
    assert not other.poll()
    assert wait([other], 0) == []


@pytest.mark.parametrize("blocks", [None, ringbell.Blocks(least=1)])
def test_what_was_kept_is_received_as_bytes_too(pipe, monkeypatch, blocks):
    one, other = pipe(blocks=blocks)

    def interrupt(number):
        monkeypatch.setattr(coded, "interrupts", 0)
        one.send(coded.Interrupting())
        one.send(number)
        with pytest.raises(KeyboardInterrupt):
            other.recv()

    interrupt(1)
    pickle = other.recv_bytes()
    assert b"Interrupting" in pickle or len(pickle) > 10
    assert other.recv() == 1
    interrupt(2)
    room = bytearray(1000)
    assert room[: other.recv_bytes_into(room)] == pickle
    assert other.recv() == 2
    interrupt(3)
    with pytest.raises(BufferTooShort) as error:
        other.recv_bytes_into(bytearray(3))
    assert error.value.args == (pickle,)
    assert other.recv() == 3
    interrupt(4)
    with pytest.raises(OSError, match="bad message length"):
        other.recv_bytes(3)


@pytest.fixture
def kept(pipe, monkeypatch):
    """A pipe whose second end has been interrupted as it received."""
    one, other = pipe()
    monkeypatch.setattr(coded, "interrupts", 0)
    one.send(coded.Interrupting())
    with pytest.raises(KeyboardInterrupt):
        other.recv()
    return one, other


def test_what_was_kept_is_received_by_nobody_after_close(kept):
    _, other = kept
    other.close()
    for call in (other.recv, other.recv_bytes, lambda: other.recv_bytes_into(bytearray(9))):
        with pytest.raises(OSError, match="handle is closed"):
            call()


def test_what_was_kept_comes_before_the_end_of_the_file(kept):
    one, other = kept
    one.close()
    with pytest.raises(KeyboardInterrupt):
        other.recv()
    assert other.recv() == "whole"
    with pytest.raises(EOFError):
        other.recv()


def test_what_unpickling_raises_is_not_taken_for_the_state_of_the_pipe(pipe):
    one, other = pipe()
    for error in (ringbell.PeerLost, ringbell.EndOfStream, ringbell.ChannelClosed):
        one.send(coded.Raising(error))
        one.send("next")
        with pytest.raises(
            RuntimeError, match=f"decoding a message raised {error.__name__}"
        ) as told:
            other.recv()
        assert isinstance(told.value.__cause__, error)
        assert other.recv() == "next"


def test_an_interrupt_at_any_place_leaves_no_limit(pipe):
    for place in range(1, 100):
        one, other = pipe()
        one.send("first use")
        other.recv()
        one.send("much longer than that")
        with interruption(place) as step, pytest.raises(OSError, match="bad message length"):
            other.recv_bytes(2)
        if not step.happened:
            break
        if other.readable and other.poll():  # it had not been refused yet
            assert other.recv() == "much longer than that"
        one.close()
        other.close()
    assert place > 3


class HandledAt:
    """Has a signal handler use a connection at the n-th place of ringbell's in the block."""

    def __init__(self, place, use):
        self.left, self.use = place, use

    def __enter__(self):
        sys.setprofile(self.event)

    def event(self, frame, kind, _argument):
        if kind in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE):
            self.left -= 1
            if self.left == 0:
                sys.setprofile(None)
                self.use()

    def __exit__(self, *_):
        sys.setprofile(None)


def test_a_handler_may_use_a_connection_whose_first_use_it_interrupts(pipe):
    for place in range(1, 200):
        one, other = pipe()
        other.send("hello")
        with HandledAt(place, lambda one=one: one.send("handler")):
            assert one.recv() == "hello"
        one.send("works")
        got = [other.recv()]
        while got[-1] != "works":
            got.append(other.recv())
        assert got == ["handler", "works"][-len(got) :]
        one.close()
        with pytest.raises(EOFError):
            other.recv()
        other.close()
        if len(got) == 1:
            break
    assert place > 20


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_cannot_use_what_an_interrupted_first_use_has_opened(pipe, monkeypatch):
    one, other = pipe()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ringbell.channel.forks.watch", coded.interrupt)
        one.send("not sent")
    child = os.fork()
    if not child:
        try:
            one.send("from the child")
        except OSError:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    one.send("from the parent")
    assert other.recv() == "from the parent"
