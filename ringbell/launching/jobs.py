# SPDX-License-Identifier: MIT
"""The requests of a pool, and those who wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ringbell._ends import Completion, Payload


class Owner(Protocol):
    """Who wants the answer. The thread of the pool uses both of these."""

    @property
    def wanted(self) -> bool:
        """Whether the request should still be sent."""
        ...

    def take(self, job: Job, /) -> None:
        """Take the request back, with its completion or its error."""


class Job:
    """One request."""

    __slots__ = ("completion", "error", "owner", "payload", "taken")

    def __init__(self, payload: Payload, owner: Owner) -> None:
        """Hold a payload that somebody wants to have answered."""
        self.payload: Payload | None = payload
        self.owner: Owner = owner
        self.completion: Completion | None = None
        self.error: Exception | None = None
        self.taken: bool = False
        """Whether the owner has it back."""

    def fail(self, error: Exception) -> None:
        """Give it back to the owner with an error."""
        self.error = error
        self.owner.take(self)

    def result(self) -> bytes:
        """Give the answer, or raise why there is none."""
        if self.error:
            raise self.error
        assert self.completion is not None, "the owner has it back"
        return self.completion.result()
