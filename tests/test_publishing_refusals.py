# SPDX-License-Identifier: MIT
"""What a publication refuses: bad options, a name in use, other roles, what does not fit."""

import copy
import errno
import pickle

import pytest
from processes import wait_until_listening

import ringbell


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"keep": "oldest"}, ValueError, "'all' or 'newest'"),
        ({"keep": 1}, TypeError, "'all' or 'newest'"),
        ({"min_readers": 65}, ValueError, "64"),
        ({"min_readers": -1}, ValueError, "64"),
        ({"min_readers": "2"}, TypeError, "64"),
        ({"stall": 0}, ValueError, "above 0"),
        ({"stall": float("nan")}, ValueError, "above 0"),
        ({"stall": "1"}, TypeError, "seconds"),
        ({"stall": 1, "keep": "newest"}, ValueError, "nobody holds the writer back"),
        ({"ring_size": 5}, ValueError, "power of two"),
        ({"dtype": "O"}, ValueError, "object"),
        ({"dtype": "i4", "codec": "pickle"}, ValueError, "not both"),
    ],
)
def test_bad_options_are_refused(path, options, error, text):
    with pytest.raises(error, match=text):
        ringbell.publish(path, **options)


def test_nobody_published_in_time(path):
    with pytest.raises(TimeoutError, match="nobody published"):
        ringbell.subscribe(path, timeout=0.05)
    with pytest.raises(TimeoutError, match="nobody published"):
        ringbell.subscribe(path, timeout=0)


def test_a_name_has_one_publisher(publish, path):
    publish()
    with pytest.raises(OSError, match="already") as error:
        ringbell.publish(path)
    assert error.value.errno == errno.EADDRINUSE


def test_other_roles_under_the_name_are_told_what_to_use(publish, path):
    publish()
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.subscribe"):
        ringbell.consume(path)
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.subscribe"):
        ringbell.produce(path)
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.subscribe"):
        ringbell.connect(path)


@pytest.mark.parametrize("role", ["producer", "consumer", "device"])
def test_a_subscriber_under_another_name_is_told_what_to_use(start, path, role):
    start(role)
    wait_until_listening(path)
    with pytest.raises(ringbell.LayoutMismatch, match=r"ringbell\.(consume|produce|connect)"):
        ringbell.subscribe(path, timeout=60)


def test_what_does_not_fit_is_refused_and_the_publication_goes_on(publish, subscribe, path):
    publisher = publish("i4", min_readers=0)
    with pytest.raises(ringbell.LayoutMismatch, match="records of int32"):
        ringbell.subscribe(path, "f8")
    with pytest.raises(ringbell.LayoutMismatch, match="codec"):
        ringbell.subscribe(path, codec="pickle")
    subscriber = subscribe("i4")
    publisher.write([1])
    assert subscriber.read().tolist() == [1]


def test_a_publisher_and_a_subscriber_are_there_once(publish, subscribe):
    publisher, subscriber = publish(), subscribe()
    for end in (publisher, subscriber):
        with pytest.raises(TypeError, match="cannot be copied"):
            copy.copy(end)
        with pytest.raises(TypeError, match="cannot be copied"):
            pickle.dumps(end)
