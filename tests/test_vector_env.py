# SPDX-License-Identifier: MIT
"""examples/vector_env.py: simulators in processes of their own, some of which fail or die."""

import os
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from environments import Keeper, Scripted, cannot_be_made
from processes import has_ended, wait_until

import ringbell

EXAMPLES = Path(__file__).parent.parent / "examples"
CARTS = 2
STEPS = 300


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    import vector_env

    return vector_env


@pytest.fixture
def scripted(example):
    with example.VectorEnv(Scripted, 2, observation=("i8", 2), action="i8") as vector:
        yield vector


def pids(vector):
    return vector.step([Scripted.PID] * 2)["observation"][:, 1].tolist()


def test_a_vector_gives_what_its_environments_give_in_one_process(example):
    alone = [example.Cart() for _ in range(CARTS)]
    actions = np.random.default_rng(1).integers(0, 2, (STEPS, CARTS))
    over = [False] * CARTS
    ends = 0
    with example.VectorEnv(example.Cart, CARTS, observation=("f8", 2), action="i8") as vector:
        records = vector.reset(seed=7)
        expected = [cart.reset(seed=7 + number)[0] for number, cart in enumerate(alone)]
        assert records["observation"].tolist() == [list(place) for place in expected]
        for some in actions:
            assert vector.step(some) is records, "they are allocated once"
            for number, cart in enumerate(alone):
                if over[number]:
                    (place, _), reward, over[number] = cart.reset(), 0.0, False
                else:
                    place, reward, over[number], _, _ = cart.step(some[number])
                assert records[number].tolist()[1:] == (reward, over[number], False)
                assert records["observation"][number].tolist() == list(place)
                ends += over[number]
    assert ends > 3, "an environment that is done begins anew"


def test_an_environment_may_keep_its_actions(example):
    with example.VectorEnv(Keeper, 2, observation="f8", action=("f4", 3)) as vector:
        vector.reset()
        for step in range(1, 4):
            records = vector.step([[1, 2, 3], [4, 5, 6]])
            assert records["observation"].tolist() == [6 * step, 15 * step]


def test_without_a_seed_an_environment_gets_none(scripted):
    assert scripted.reset(5)["observation"][:, 1].tolist() == [5, 6]
    assert scripted.reset()["observation"][:, 1].tolist() == [-1, -1]


def test_what_an_environment_raises_comes_out_with_its_text_and_the_vector_goes_on(scripted):
    scripted.reset()
    with pytest.raises(ringbell.RequestFailed, match="ValueError: the wheel came off") as raised:
        scripted.step([Scripted.RAISE, Scripted.WELL])
    assert raised.value.__notes__ == ["It was simulator 0."]
    # The answers of the step that failed are not taken for those of the next one.
    assert scripted.step([Scripted.WELL] * 2)["observation"][:, 0].tolist() == [2, 2]
    assert scripted.reset(1)["observation"].tolist() == [[0, 1], [0, 2]]


def test_an_observation_of_another_shape_is_an_error_that_says_so(example):
    with (
        example.VectorEnv(Scripted, 2, observation=("i8", 3), action="i8") as vector,
        pytest.raises(ringbell.RequestFailed, match="ValueError: .*shape"),
    ):
        vector.reset()


def test_actions_of_another_shape_are_refused(scripted):
    scripted.reset()
    with pytest.raises(ValueError, match="shape"):
        scripted.step([0, 0, 0])


def test_an_environment_that_cannot_be_made_says_why(example):
    with (
        example.VectorEnv(cannot_be_made, 1, observation="f4", action="i8") as vector,
        pytest.raises(ringbell.RequestFailed, match="OSError: there is no such simulator"),
    ):
        vector.reset()


def test_a_killed_simulator_is_told_as_peer_lost_and_the_others_end(example):
    with (
        pytest.raises(ringbell.PeerLost) as raised,
        example.VectorEnv(Scripted, 2, observation=("i8", 2), action="i8") as vector,
    ):
        vector.reset()
        running = pids(vector)
        os.kill(running[1], signal.SIGKILL)
        wait_until(lambda: has_ended(running[1]))
        vector.step([Scripted.WELL] * 2)
    assert "It was simulator 1." in raised.value.__notes__
    assert any("SIGKILL" in note for note in raised.value.__notes__), "how it ended"
    assert all(has_ended(pid) for pid in running)


def test_a_simulator_that_dies_in_a_step_is_told_as_peer_lost_in_each_step_from_then_on(scripted):
    scripted.reset()
    for actions in ([Scripted.WELL, Scripted.DIE], [Scripted.WELL] * 2):
        with pytest.raises(ringbell.PeerLost) as raised:
            scripted.step(actions)
        assert "It was simulator 1." in raised.value.__notes__


def test_close_ends_the_processes(example):
    with closing(example.VectorEnv(Scripted, 2, ("i8", 2), "i8")) as vector:
        vector.reset()
        running = pids(vector)
    assert all(has_ended(pid) for pid in running)
    with pytest.raises(ringbell.ChannelClosed):
        vector.step([Scripted.WELL] * 2)
