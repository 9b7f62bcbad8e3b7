# SPDX-License-Identifier: MIT
"""Six things that people ask for in public, each of which means "only the newest matters".

Each test says what they want, and does it between two or more real processes.
"""

import contextlib

import numpy as np
import pytest

import ringbell

# Long, and of a kind of which others run each time; `make verify` runs it.
pytestmark = pytest.mark.variant

FRAME = "[('number', 'i8'), ('pixels', 'u1', (120, 160))]"
IS_WHOLE = """
def number_of(frame):
    assert (frame["pixels"] == int(frame["number"]) % 251).all(), "half of another frame"
    return int(frame["number"])
"""
FILMS = """
import numpy as np
def film(first, last, pause=0.0):
    for number in range(first, last + 1):
        with publisher.reserve(1, timeout=0) as rows:  # a camera waits for nobody
            rows["number"] = number
            rows["pixels"] = number % 251
        time.sleep(pause)
"""


@pytest.fixture
def camera(start):
    """Start a process that films, and keeps the newest of some frames."""
    peer = start("publisher", dtype=FRAME, keep="newest", ring_size=1 << 17)
    peer.run(FILMS)
    return peer


@pytest.fixture
def number_of():
    names = {}
    exec(IS_WHOLE, names)
    return names["number_of"]


def test_a_slow_detector_gets_the_frame_of_now_and_the_camera_is_not_held_up(
    camera, subscribe, number_of
):
    """Frames pile up in a camera's buffer while a detector works, and it lags behind more and more.

    People start a thread that only empties the buffer, or measure how long a read takes to guess
    whether the frame was old.
    """
    detector = subscribe(timeout=None)
    last = taken = 0
    for round_ in range(20):
        first = round_ * 30 + 1
        camera.run(f"film({first}, {first + 29})")  # while the detector was at work
        number = number_of(detector.latest())
        assert number == first + 29
        taken += 1
        last = number
    assert taken + detector.missed == last == 600


def test_a_queue_of_one_whose_old_item_is_dropped(start, subscribe):
    """A multiprocessing.Queue(maxsize=1): when it is full, take the old item out, put the new one.

    Between the two steps the reader may have taken it, and either side waits or raises. And all
    that is skipped has been pickled and unpickled for nothing.
    """
    decoded = []

    def decode(octets):
        decoded.append(octets)
        return int(bytes(octets))

    peer = start("nothing")
    peer.run(
        "publisher = ringbell.publish(path, keep='newest', ring_size=4096, "
        "codec=(lambda number: b'%d' % number, int, 'number'))"
    )
    queue = subscribe(codec=(lambda number: b"%d" % number, decode, "number"))
    peer.run("[publisher.send(number, timeout=0) for number in range(1000)]")
    assert queue.latest() == 999
    with pytest.raises(ringbell.RingEmpty):
        queue.latest(timeout=0)
    assert decoded == [b"999"]


def test_two_subscribers_with_a_queue_of_one_and_a_callback_each_of_its_own_pace(
    camera, start, path
):
    """A robot's topic with a queue of 1: a slow callback is given images from seconds ago.

    Buffers below the queue are larger than an image. To throttle the camera to the slowest of its
    readers would slow all of them down.
    """
    callbacks = []
    for pause in (0.0, 0.02):
        callback = start("subscriber")
        callback.run(IS_WHOLE)
        callback.begin(f"""
seen = []
try:
    while True:
        newest = subscriber.latest()
        seen.append(number_of(newest))
        time.sleep({pause})
except ringbell.EndOfStream:
    pass
""")
        callbacks.append(callback)
    camera.run("while len(publisher.readers) < 2: time.sleep(0.001)")
    camera.run("film(1, 300, 0.001) or publisher.close()")
    for callback in callbacks:
        callback.reply()
        seen, missed = eval(callback.run("seen, subscriber.missed"))
        assert seen == sorted(set(seen))
        assert seen[-1] == 300
        assert len(seen) + missed == 300


def test_who_comes_late_gets_the_last_value_at_once(start, subscribe):
    """A latched topic, or a cache of last values: a map or a setting is sent once, and not again.

    Whoever subscribes later has to get it, without a request, and without the writer noticing.
    """
    peer = start("publisher", codec="pickle", keep="newest")
    peer.run("publisher.send({'map': 'old'}), publisher.send({'map': 'of the house'})")
    for _ in range(3):
        late = subscribe(codec="pickle")
        assert late.latest() == {"map": "of the house"}
        with pytest.raises(ringbell.RingEmpty):
            late.latest(timeout=0)
        assert late.missed == 0
    peer.run("publisher.send({'map': 'new'})")
    assert late.latest() == {"map": "new"}


def test_a_frame_in_shared_memory_is_never_half_of_one_and_half_of_the_next(
    camera, subscribe, number_of
):
    """One process writes pictures into shared memory, another one shows them, without a lock.

    Now and then a picture is torn. With a lock the camera waits for the one that draws.
    """
    viewer = subscribe()
    camera.begin("film(1, 20_000) or publisher.close()")
    copied = borrowed = overwritten = last = 0
    with contextlib.suppress(ringbell.EndOfStream):
        while True:
            newest = number_of(viewer.latest())  # a copy, which is whole
            assert newest > last
            copied, last = copied + 1, newest
            try:
                with viewer.borrow(1) as frames:
                    seen = int(frames[0]["number"])
                    is_whole = (frames[0]["pixels"] == seen % 251).all()
            except ringbell.Overwritten:
                overwritten += 1  # what was seen counts for nothing
            else:
                assert is_whole
                assert seen > last
                borrowed, last = borrowed + 1, seen
    camera.reply()
    assert last == 20_000
    assert copied + borrowed + viewer.missed == 20_000


def test_actors_take_the_newest_weights_when_they_begin_a_rollout(start, path, publish):
    """A learner sends its weights to all actors, of which some are in the middle of a rollout.

    Weights that were pushed to a busy actor are dropped, or an old version waits in its queue. An
    actor wants to look when it begins, and to go on with what it has if there is nothing newer.
    """
    learner = publish([("version", "i8"), ("weights", "f8", 1000)], keep="newest")
    actors = [start("subscriber") for _ in range(3)]
    for actor in actors:
        actor.run("""
mine = None
def rollout():
    global mine
    try:
        mine = subscriber.latest(timeout=None if mine is None else 0)
    except ringbell.RingEmpty:
        pass
    assert (mine["weights"] == mine["version"]).all()
    return int(mine["version"])
""")

    def learn(version):
        row = np.zeros(1, learner.dtype)
        row["version"], row["weights"] = version, version
        assert learner.write(row, timeout=0) == 1

    learn(1)
    assert [actor.run("rollout()") for actor in actors] == ["1"] * 3
    for version in range(2, 100):
        learn(version)
        assert actors[version % 2].run("rollout()") == str(version)
    assert actors[2].run("rollout()") == actors[2].run("rollout()") == "99"
    assert actors[2].run("subscriber.missed") == "97"
