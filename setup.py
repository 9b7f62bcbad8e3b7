# SPDX-License-Identifier: MIT
"""Only what pyproject.toml cannot say: the two extensions, and one abi3 wheel from 3.11 on.

`_ffi`, made by cffi, is the way in for opening, options and stats; `_ends` has the methods that are
called for each message. Both have the core in them. What that keeps outside of a channel, the list
of open descriptors, is used by `_ffi` alone.
"""

import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "csrc"))
from build_ffi import CORE, FLAGS, HEADERS  # noqa: E402  (it lies in a folder of its own)

PYTHON = [f"csrc/python/{file.name}" for file in sorted((ROOT / "csrc/python").glob("*.[ch]"))]
# An interpreter without a GIL has no limited API.
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")

ends = Extension(
    "ringbell._ends",
    sources=[*CORE, *(file for file in PYTHON if file.endswith(".c"))],
    depends=[*HEADERS, *(file for file in PYTHON if file.endswith(".h"))],
    define_macros=[
        ("_GNU_SOURCE", "1"),
        *([("Py_LIMITED_API", "0x030b0000")] if LIMITED else []),
    ],
    extra_compile_args=FLAGS,
    py_limited_api=LIMITED,
)

setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    ext_modules=[ends],
    options={"bdist_wheel": {"py_limited_api": "cp311"} if LIMITED else {}},
)
