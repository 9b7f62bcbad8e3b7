# SPDX-License-Identifier: MIT
"""What a second thread inside one end is told."""


def in_use(end: object) -> RuntimeError:
    """Say that an end is for one thread at a time."""
    return RuntimeError(
        f"this {type(end).__name__} is in use: another thread (or the code that this signal "
        "handler interrupted) is inside it; an end is for one thread at a time"
    )
