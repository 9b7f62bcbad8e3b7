# SPDX-License-Identifier: MIT
"""The cffi recipe: csrc/api.h is both what C is compiled against and what Python may call."""

from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent
SOURCES = ("ring.c", "ends.c", "message.c", "record.c", "wait.c", "segment.c")
HEADERS = ("api.h", "channel.h", "layout.h", "ordering.h")

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "api.h").read_text())
ffibuilder.set_source(
    "ringbell._ffi",
    '#include "channel.h"',
    sources=[f"csrc/{name}" for name in SOURCES],
    depends=[f"csrc/{name}" for name in HEADERS],
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=["-std=gnu11", "-O2", "-fvisibility=hidden", "-Wno-unused-parameter"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
