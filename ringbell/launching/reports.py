# SPDX-License-Identifier: MIT
"""What a launched process tells its parent."""

from __future__ import annotations

import os
import pickle
import threading
from multiprocessing.connection import Connection
from typing import Literal

from ringbell.calls.failures import describe_error, traceback_of
from ringbell.channel import forks

Kind = Literal["ready", "log", "progress", "done", "failed"]


class Reports:
    """The sending end, in the new process; for any thread.

    What a report holds is pickled by itself, so that the parent can say what it could not unpack.
    """

    def __init__(self, connection: Connection) -> None:
        """Hold the sending end; processes that this one starts do not get it."""
        self._connection = connection
        self._turn = threading.Lock()
        os.set_inheritable(connection.fileno(), False)
        forks.watch(self)

    def send(self, kind: Kind, content: object = None) -> None:
        """Send one report. Raises what pickle raises when the content cannot be pickled."""
        packed = pickle.dumps(content)
        with self._turn:
            self._connection.send((kind, packed))

    def send_result(self, result: object) -> None:
        """Report what the task returned. Raises TypeError when that cannot be pickled."""
        try:
            self.send("done", result)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise TypeError(f"what the function returned cannot be sent: {error}") from error

    def send_error(self, error: BaseException) -> None:
        """Report what the task raised: as itself if it can be pickled, and as text."""
        try:
            packed = pickle.dumps(error)
        except Exception:  # whatever the exception's own code raises
            packed = b""
        self.send("failed", (packed, describe_error(error), traceback_of(error)))

    def leave_to_parent(self) -> None:
        """Close it in a forked child of the new process."""
        self._connection.close()
