# SPDX-License-Identifier: MIT
"""Names that nobody else has, for processes that this one starts."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from ringbell.meeting.address import prepare_folder, socket_path


def private_path(what: str) -> Path:
    """Give the path of a socket, in the folder of names.

    It is a name like others, so that whatever a killed process leaves is removed as theirs is. The
    path is absolute: the environment of a fork server may be another one.
    """
    path = socket_path(f"{what}-{os.getpid()}-{secrets.token_hex(4)}").absolute()
    prepare_folder(path)
    return path
