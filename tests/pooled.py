# SPDX-License-Identifier: MIT
"""Requests to a pool in tests, and what comes back."""

import ringbell


def numbers(count):
    return [b"echo %d" % i for i in range(count)]


def outcomes(answers):
    """Take all of them; exceptions stand at their places."""
    while True:
        try:
            yield next(answers)
        except StopIteration:
            return
        except ringbell.RingbellError as error:
            yield error
