# SPDX-License-Identifier: MIT
"""The requests of a pool, and those who wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ringbell.errors import RequestFailed

if TYPE_CHECKING:
    from ringbell._ends import Completion


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

    def __init__(self, payload: Any, owner: Owner) -> None:  # noqa: ANN401
        """Hold a payload that somebody wants to have answered."""
        self.payload: Any = payload
        self.owner: Owner = owner
        self.completion: Completion | None = None
        self.error: Exception | None = None
        self.taken: bool = False
        """Whether the owner has it back."""

    def fail(self, error: Exception) -> None:
        """Give it back to the owner with an error."""
        self.error = error
        self.owner.take(self)

    def complete(self, completion: Completion) -> None:
        """Give it back to the owner with its completion."""
        if completion.ok:
            self.completion = completion
        else:
            try:
                completion.result()
            except RequestFailed as error:
                self.error = error
        self.owner.take(self)
