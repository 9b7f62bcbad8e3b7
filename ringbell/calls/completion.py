# SPDX-License-Identifier: MIT
"""What the device answered."""

from __future__ import annotations

from ringbell.errors import RequestFailed


class Completion:
    """A device's answer to one request."""

    __slots__ = ("ok", "payload", "token")

    def __init__(self, token: int, payload: bytes, ok: bool) -> None:
        self.token = token
        """The token that `submit` returned for the request."""
        self.payload = payload
        """The answer; if `ok` is false, what the device said went wrong, as UTF-8."""
        self.ok = ok
        """Whether the device completed the request; false if it failed it."""

    def result(self) -> bytes:
        """Give the payload, or raise RequestFailed with the device's text."""
        if self.ok:
            return self.payload
        raise RequestFailed(self.payload.decode(errors="replace"))

    def __repr__(self) -> str:
        return f"Completion(token={self.token}, payload={self.payload!r}, ok={self.ok})"
