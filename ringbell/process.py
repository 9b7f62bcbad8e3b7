# SPDX-License-Identifier: MIT
"""What to call the process at the other end."""

from __future__ import annotations


def describe(pid: int) -> str:
    """Name a process in a text; the kernel knows no number for one of another PID namespace."""
    return f"process {pid}" if pid else "a process of another PID namespace"
