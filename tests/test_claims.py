# SPDX-License-Identifier: MIT
"""The judges of bench/claims say what the numbers say, one way and the other."""

import pytest
from claims.verdicts import (
    Polling,
    adaptive_polling,
    coalescing,
    crossing,
    duration,
    kicks_against_load,
    number,
    one_wake_up,
    padding,
    rate_against_depth,
    two_cpus,
    wake_up,
    why_slower,
)


def polling(never, adaptive, always, cpu=(5.0, 20.0, 90.0)):
    gaps = (10.0, 50.0, 1000.0)
    return {
        name: Polling(dict.fromkeys(gaps, latency), dict.fromkeys(gaps, share))
        for name, latency, share in zip(
            ("never", "adaptive", "always"), (never, adaptive, always), cpu, strict=True
        )
    }


def judge_polling(regular, irregular, one_cpu=150.0):
    on_one_cpu = {"never": 5.0, "adaptive": one_cpu, "always": 8000.0}
    return adaptive_polling(regular, irregular, on_one_cpu, bound_us=100)


GOOD, IN_VAIN = polling(50.0, 1.0, 0.5), polling(50.0, 49.0, 0.5)
COSTLY = polling(50.0, 48.0, 0.5, cpu=(5.0, 140.0, 900.0))
KICKS = {"always": [1.0, 1.0, 1.0], "compare": [1.0, 0.2, 0.001], "event": [0.9, 0.1, 0.0]}
PLAIN = {1e3: 20.0, 1e4: 20.0, 1e5: 30.0, 1e6: 400.0}
ABOVE = {1e3: 220.0, 1e4: 210.0, 1e5: 100.0, 1e6: 500.0}
BELOW = {1e3: 220.0, 1e4: 210.0, 1e5: 60.0, 1e6: 100.0}
HIGHER, LOWER = {0: PLAIN, 200: ABOVE}, {0: PLAIN, 200: BELOW}

JUDGED = {
    "holds": [
        wake_up({10: 50.0, 1e6: 60.0}, {10: 45.0}, {10: 80.0}),
        rate_against_depth({"C": {1: 9e3, 1024: 1e6}}, wake_up_us=50),
        kicks_against_load(KICKS, "always", "compare"),
        one_wake_up({1: 1, 1000: 1}, {1: 1, 1000: 300.0}),
        coalescing(HIGHER, HIGHER, HIGHER),
        judge_polling(GOOD, GOOD),
        padding({"one": [6.0, 6.0], "many": [20.0]}, {"one": [3.0, 3.5], "many": [10.0]}),
        two_cpus({"deep": {0: 1.0, 10: 1.0}}, {"deep": {0: 2.0, 10: 1.5}}),
    ],
    "holds in part": [
        wake_up({10: 50.0, 1e6: 60.0}, {10: 5.0}, {10: 80.0}),
        rate_against_depth({"C": {1024: 1e6}, "Python": {1024: 2e4}}, wake_up_us=50),
        kicks_against_load(KICKS | {"compare": [1.0, 0.5, 0.5]}, "always", "compare"),
        one_wake_up({1: 1, 1000: 1.2}, {1: 1, 1000: 300.0}),
        coalescing(LOWER, HIGHER, HIGHER),
        coalescing(HIGHER, LOWER, LOWER),
        judge_polling(IN_VAIN, GOOD),
        judge_polling(GOOD, COSTLY),
        judge_polling(GOOD, GOOD, one_cpu=500.0),
        padding({"one": [6.0], "many": [20.0]}, {"one": [3.0], "many": [20.0]}),
        two_cpus({"deep": {0: 1.0, 10: 1.0}}, {"deep": {0: 0.5, 10: 1.5}}),
    ],
    "refuted": [
        wake_up({10: 10.0, 1e6: 60.0}, {10: 5.0}, {10: 80.0}),
        rate_against_depth({"C": {1: 9e3, 1024: 2e4}}, wake_up_us=50),
        kicks_against_load({policy: [1.0, 1.0, 1.0] for policy in KICKS}, "always", "compare"),
        one_wake_up({1: 2, 1000: 1000}, {1: 2, 1000: 1000}),
        coalescing(*[{0: PLAIN, 200: PLAIN}] * 3),
        judge_polling(IN_VAIN, COSTLY),
        padding({"one": [3.0], "many": [20.0]}, {"one": [3.0], "many": [20.0]}),
        two_cpus({"deep": {0: 1.0, 10: 1.0}}, {"deep": {0: 0.5, 10: 0.5}}),
    ],
}


@pytest.mark.parametrize(
    ("word", "verdict"), [(word, verdict) for word in JUDGED for verdict in JUDGED[word]]
)
def test_a_judge_decides_by_the_numbers(word, verdict):
    assert verdict.word == word
    assert verdict.text.endswith(".")
    assert verdict.title[0].isupper()
    assert not verdict.title.endswith((".", " "))


def test_a_title_says_what_is_the_case_and_not_what_is_refuted():
    titles = {word: {verdict.title for verdict in verdicts} for word, verdicts in JUDGED.items()}
    assert titles["holds"].isdisjoint(titles["refuted"])
    assert titles["holds"].isdisjoint(titles["holds in part"])


def test_lines_of_p99_that_cross_within_their_spread_do_not_cross():
    assert coalescing(HIGHER, LOWER, LOWER).word == "holds in part"
    verdict = coalescing(HIGHER, LOWER, HIGHER)
    assert verdict.word == "holds"
    assert "No line of p99 crosses that of no moderation by more than the spread" in verdict.text


WAITERS = ("C", "Python", "C that pauses")


def explain(rate=500.0, kicks=(0.25, 0.01, 0.02)):
    """Explain why Python has that rate at depth 8, by kicks for a request."""
    rates = {name: {1: 20.0, 8: rate if name == "Python" else 150.0} for name in WAITERS}
    slept = (1.0, 0.2, 0.3)
    of_depth = (
        {name: {1: at_1, 8: at_8} for name, at_8 in zip(WAITERS, shares, strict=True)}
        for at_1, shares in ((2.0, kicks), (1.0, slept))
    )
    return why_slower(*WAITERS, rates, *of_depth)


def test_a_slower_program_with_the_higher_rate_is_explained_by_its_last_look():
    text = explain()
    for told in (
        "Python beats C at depth 8, most at 8, where it sends 10 kicks for 1,000 requests",
        "and C 250.",
        "so 20 of 100 looks that found nothing end in a sleep, and 100 in C.",
        "C that pauses there sends 20:",
    ):
        assert told in text
    assert text.endswith("what arrives before that look needs no kick.")
    assert explain(rate=150.0) == " Python is not faster than C at any depth."


@pytest.mark.parametrize(
    "kicks",
    [
        pytest.param((0.25, 0.25, 0.02), id="as many kicks"),
        pytest.param((0.25, 0.01, 0.25), id="a pause changes nothing"),
    ],
)
def test_what_the_kicks_do_not_explain_is_said_to_be_unexplained(kicks):
    assert explain(kicks=kicks).endswith("this run does not explain it.")


def test_a_verdict_tells_the_numbers_it_was_made_of():
    verdict = rate_against_depth({"C": {1: 9000.0, 1024: 1e6}}, wake_up_us=50)
    for told in (
        "20,000 a second",
        "9,000 requests/s at depth 1",
        "50 times 1/W",
        "from depth 1,024",
    ):
        assert told in verdict.text


def test_two_lines_cross_where_one_stays_below_the_other_from_then_on():
    assert crossing(PLAIN, ABOVE) is None
    assert 1e5 < crossing(PLAIN, BELOW) < 1e6
    once_below = {1e3: 220.0, 1e4: 10.0, 1e5: 60.0, 1e6: 500.0}
    assert crossing(PLAIN, once_below) is None
    assert crossing(PLAIN, dict.fromkeys(PLAIN, 1.0)) == 1e3


def test_numbers_are_written_to_be_read():
    assert [number(n) for n in (0, 0.01234, 1.5, 2.0, 66.38, 123.4, 5415.2, 7396611.3)] == [
        "0", "0.0123", "1.5", "2", "66.4", "123", "5,420", "7,400,000"
    ]  # fmt: skip
    assert [duration(us) for us in (17.2, 2500, 1e6)] == ["17.2 us", "2.5 ms", "1 s"]
