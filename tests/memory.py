# SPDX-License-Identifier: MIT
"""Shared memory for tests: to read it, or to spoil it as a bad peer would."""

from __future__ import annotations

import os

from ringbell._ffi import ffi, lib

WRITE_INDEX, READ_INDEX, GOODBYE = 0, 256 // 8, 768 // 8


def control_words(side):
    """Give the words of this side's control page, which lies before its slots."""
    page = os.sysconf("SC_PAGESIZE")
    mine = lib.rb_channel_mine(side._channel.handle)
    return ffi.from_buffer("uint64_t[]", ffi.buffer(mine - page, page))


def address_of_slots(consumer):
    """Say where the slots begin that this end consumes."""
    return int(ffi.cast("uintptr_t", lib.rb_channel_theirs(consumer._channel.handle)))
