# SPDX-License-Identifier: MIT
"""The cffi recipe: csrc/api.h is both what C is compiled against and what Python may call."""

from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent
CORE = [f"csrc/{file.name}" for file in sorted(CSRC.glob("*.c"))]
HEADERS = [f"csrc/{file.name}" for file in sorted(CSRC.glob("*.h"))]
FLAGS = ["-std=gnu11", "-O2", "-fvisibility=hidden", "-Wno-unused-parameter"]

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "api.h").read_text())
ffibuilder.set_source(
    "ringbell._ffi",
    '#include "channel.h"',
    sources=CORE,
    depends=HEADERS,
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", "1")],
    extra_compile_args=FLAGS,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
