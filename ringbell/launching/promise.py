# SPDX-License-Identifier: MIT
"""A request of a pool whose answer becomes the result of a future."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from typing import Any

from ringbell.launching.jobs import Job

_log = logging.getLogger("ringbell")


class Promise:
    """The owner of one request; sets the result of a future."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        """Make the future."""
        self.future: Future[Any] = Future()

    @property
    def wanted(self) -> bool:
        """Mark the future as running; False if it was cancelled."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def take(self, job: Job, /) -> None:
        """Set the result, or the exception. This calls the callbacks of the future."""
        try:
            if not self.wanted:
                return
            if job.completion is None:
                self.future.set_exception(job.error)
                return
            try:
                answer = job.completion.payload
            except Exception as error:  # of the codec
                self.future.set_exception(error)
            else:
                self.future.set_result(answer)
        except BaseException:  # such as SystemExit of a callback: it must not end the thread
            _log.exception("a callback of a future of the pool failed")
