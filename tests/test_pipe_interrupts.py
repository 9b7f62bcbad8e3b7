# SPDX-License-Identifier: MIT
"""A signal handler that raises while a connection receives loses and repeats nothing."""

from multiprocessing import BufferTooShort
from multiprocessing.connection import wait

import coded
import pytest
from processes import interruption

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


def test_what_was_kept_is_received_by_nobody_after_close(pipe, monkeypatch):
    one, other = pipe()
    monkeypatch.setattr(coded, "interrupts", 0)
    one.send(coded.Interrupting())
    with pytest.raises(KeyboardInterrupt):
        other.recv()
    other.close()
    for call in (other.recv, other.recv_bytes, lambda: other.recv_bytes_into(bytearray(9))):
        with pytest.raises(OSError, match="handle is closed"):
            call()


def test_what_was_kept_comes_before_the_end_of_the_file(pipe, monkeypatch):
    one, other = pipe()
    monkeypatch.setattr(coded, "interrupts", 0)
    one.send(coded.Interrupting())
    with pytest.raises(KeyboardInterrupt):
        other.recv()
    one.close()
    with pytest.raises(KeyboardInterrupt):
        other.recv()
    assert other.recv() == "whole"
    with pytest.raises(EOFError):
        other.recv()
