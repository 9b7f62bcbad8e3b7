# SPDX-License-Identifier: MIT
"""Bad values of options are refused with an error that says what is wrong, before anything waits.

Timeouts are in test_timeouts.py.
"""

import numpy as np
import pytest

import ringbell

HUGE = 10**400  # too large for a float
OPENING = {
    "connect": ringbell.connect,
    "listen": ringbell.listen,
    "serve": lambda name, **options: ringbell.serve(name, bytes, **options),
    "produce": ringbell.produce,
    "consume": ringbell.consume,
}
BAD = [
    ("cpu", "x", TypeError, "cpu is the number of a CPU"),
    ("cpu", 1.5, TypeError, "cpu is the number of a CPU"),
    ("cpu", True, TypeError, "cpu is the number of a CPU"),
    ("cpu", -1, ValueError, "cpu is the number of a CPU"),
    ("cpu", HUGE, ValueError, "cpu is the number of a CPU"),
    ("polling", None, TypeError, "polling is one of adaptive, never, always"),
    ("polling", ["adaptive"], TypeError, "polling is one of"),
    ("polling", "sometimes", ValueError, "polling is one of"),
    ("max_poll", "0.01", TypeError, "max_poll is from 0 to 0.05 seconds"),
    ("max_poll", HUGE, ValueError, "max_poll is from 0 to 0.05 seconds"),
    ("max_poll", float("nan"), ValueError, "max_poll is from 0 to 0.05 seconds"),
    ("max_share", "all", TypeError, "max_share is from 0 to 1"),
    ("max_share", -1, ValueError, "max_share is from 0 to 1"),
    ("kick", 1, TypeError, "kick is 'asleep' or 'always'"),
    ("kick", "no", ValueError, "kick is 'asleep' or 'always'"),
    ("moderation", 32, TypeError, "moderation is a ringbell.Moderation or None"),
    ("ring_size", "1M", TypeError, "ring_size is a power of two from 4096 to"),
    ("ring_size", 4096.0, TypeError, "ring_size is a power of two from 4096 to"),
    ("ring_size", None, TypeError, "ring_size is a power of two from 4096 to"),
    ("ring_size", 5000, ValueError, "ring_size is a power of two from 4096 to"),
    ("ring_size", HUGE, ValueError, "ring_size is a power of two from 4096 to"),
]
LACKS = {
    "connect": (),
    "listen": ("ring_size",),
    "serve": ("ring_size",),
    "produce": ("moderation",),
    "consume": ("ring_size", "kick"),
}
CASES = [
    (name, option, value, error, text)
    for name in OPENING
    for option, value, error, text in BAD
    if option not in LACKS[name]
]


@pytest.mark.parametrize(
    ("name", "option", "value", "error", "text"),
    CASES,
    ids=[f"{name}, {option} {i}" for i, (name, option, *_) in enumerate(CASES)],
)
def test_a_bad_option_is_refused_in_our_own_words(path, name, option, value, error, text):
    with pytest.raises(error) as caught:
        OPENING[name](path, **{option: value})
    assert str(caught.value).startswith(text)
    assert ", not " in str(caught.value)
    assert len(str(caught.value)) < 300
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", OPENING)
@pytest.mark.parametrize("value", [None, 5, b"bytes", ["list"]])
def test_a_name_that_is_no_text_is_a_type_error(name, value):
    with pytest.raises(TypeError, match="a channel's name is a str, or a path .*, not "):
        OPENING[name](value)


@pytest.mark.parametrize("name", OPENING)
@pytest.mark.parametrize("value", ["", ".", "..", "a\0b", "folder/"])
def test_a_text_that_cannot_be_a_name_is_a_value_error(name, value):
    with pytest.raises(ValueError, match="cannot be the name of a channel; a name is any text"):
        OPENING[name](value)


@pytest.mark.parametrize("name", OPENING)
def test_a_path_in_a_folder_that_is_not_there_says_so(path, name):
    error = ConnectionRefusedError if name == "connect" else FileNotFoundError
    with pytest.raises(error, match=f"there is no folder {path.parent}/a b"):
        OPENING[name](path.parent / "a b" / "c")


def test_a_number_of_numpy_is_a_number(path):
    with pytest.raises(TimeoutError):
        ringbell.produce(
            path, ring_size=np.int64(4096), timeout=np.float32(0), max_poll=np.float64(0.01)
        )


@pytest.mark.parametrize("handler", [5, None, "bytes", b"bytes"])
def test_a_handler_that_cannot_be_called_is_refused_before_anybody_connects(path, handler):
    with pytest.raises(TypeError, match="the handler is a function that takes .*, not "):
        ringbell.serve(path, handler)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"entries": "8"}, TypeError, "entries is from 2 to"),
        ({"entries": 1}, ValueError, "entries is from 2 to"),
        ({"entries": HUGE}, ValueError, "entries is from 2 to"),
        ({"delay": "1"}, TypeError, "delay is above 0 and at most"),
        ({"delay": 0}, ValueError, "delay is above 0 and at most"),
        ({"delay": HUGE}, ValueError, "delay is above 0 and at most"),
    ],
)
def test_bad_moderation_is_refused_in_our_own_words(options, error, text):
    with pytest.raises(error, match=text):
        ringbell.Moderation(**options)


@pytest.mark.parametrize(
    ("value", "error"),
    [("8", TypeError), (1.5, TypeError), (None, TypeError), (-1, ValueError), (-HUGE, ValueError)],
    ids=["text", "fraction", "None", "negative", "huge"],
)
def test_bad_numbers_of_calls_are_refused_in_our_own_words(pair, stream, value, error):
    driver, device = pair()
    producer, consumer = stream("i4")
    with driver.reserve(8) as frame, producer.reserve(8) as rows:
        del rows
        uses = [
            ("depth is how many requests", lambda: driver.map([b"x"], depth=value)),
            ("reserve gives from 0 to", lambda: driver.reserve(value)),
            ("reserve gives from 0 to", lambda: device.interrupt.reserve(value)),
            ("reserve gives from 1 to", lambda: producer.reserve(value)),
            ("token is from 0 to", lambda: device.interrupt.send(b"x", token=value)),
            ("token is from 0 to", lambda: device.interrupt.reserve(1, token=value)),
            ("the frame holds from 0 to", lambda: setattr(frame, "length", value)),
        ]
        if value is not None:
            uses += [
                ("max is how many to take", lambda: driver.interrupt.recv_many(value)),
                ("max is how many to take", lambda: consumer.read(value)),
                ("max is how many to take", lambda: consumer.borrow(max=value)),
                ("max_entries is at least 1", lambda: producer.coalesce(max_entries=value)),
            ]
        for text, use in uses:
            with pytest.raises(error, match=text) as caught:
                use()
            assert ", not " in str(caught.value)


@pytest.mark.parametrize("value", ["1", HUGE, -1])
def test_a_bad_delay_of_coalescing_is_refused_in_our_own_words(pair, value):
    driver, _ = pair()
    with pytest.raises((TypeError, ValueError), match="max_delay is above 0 and at most 3600"):
        driver.doorbell.coalesce(max_delay=value)


def test_a_number_that_is_larger_than_any_bound_takes_all(pair):
    driver, device = pair()
    driver.doorbell.send_many([b"x"] * 10)
    assert len(device.doorbell.recv_many(max=HUGE)) == 10
    next(iter(driver.map([], depth=HUGE)), None)


def test_a_number_that_python_does_not_print_is_refused_in_our_own_words(path, pair):
    endless = 10**5000
    driver, device = pair()
    uses = [
        lambda: ringbell.connect(path, ring_size=endless),
        lambda: ringbell.produce(path, cpu=endless),
        lambda: driver.reserve(endless),
        lambda: driver.map([b"x"], depth=-endless),
        lambda: device.take(timeout=endless),
        lambda: ringbell.consume(path, timeout=-endless),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="not an integer that large"):
            use()
