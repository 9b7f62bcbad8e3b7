# SPDX-License-Identifier: MIT
"""What a launched process logs goes where the logs of its parent go."""

from __future__ import annotations

import logging
import logging.handlers
import traceback
from collections.abc import Callable

Levels = dict[str, int]
Send = Callable[[logging.LogRecord], None]


def levels() -> Levels:
    """Give the level of each logger that has one of its own, "" is the root; in the parent."""
    loggers = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: logger.level
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger) and logger.level
    }


def forward(levels: Levels, disabled: int, send: Send) -> None:
    """Send what is logged from now on to the parent; in a new process.

    A logger has the level that it has in the parent, so what the parent does not want is not sent.
    Handlers that the user's main module has made again, when it was imported here, are removed:
    with them, each record would be shown twice.
    """
    logging.disable(disabled)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.root.handlers[:] = [_Forwarder(send)]


class _Forwarder(logging.handlers.QueueHandler):
    """Makes texts of a record's arguments and its exception, and sends the record."""

    def __init__(self, send: Send) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # there is no queue
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send(record)


def take(record: logging.LogRecord) -> None:
    """Log what another process has logged; in the parent.

    If a handler or a filter of the user's raises, nobody has called it who could be told.
    """
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        try:
            logger.handle(record)
        except Exception:  # whatever it raises
            traceback.print_exc()
