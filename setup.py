# SPDX-License-Identifier: MIT
"""Only what pyproject.toml cannot say: the extensions, one abi3 wheel from 3.11 on, the index page.

`_ffi`, made by cffi, is the way in for opening, options and stats; `_ends` has the methods that are
called for each message. Both have the core in them. What that keeps outside of a channel, the list
of open descriptors, is used by `_ffi` alone.
"""

import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

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


class BuildChecked(build_ext):
    """Says in one line what is missing, where a compiler would say it in fifty."""

    def run(self) -> None:
        """Look for what is needed, then build."""
        if missing := what_is_missing():
            sys.exit(f"ringbell cannot be compiled: {missing}")
        super().run()


def what_is_missing() -> str | None:
    """Say what a build needs and does not find here."""
    if sys.platform != "linux":
        return f"it works on Linux only, and this is {sys.platform}"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    headers = sysconfig.get_path("include")
    try:
        tried = subprocess.run(
            [*compiler, "-E", f"-I{headers}", "-"],
            input="#include <sys/eventfd.h>\n#include <Python.h>\n",
            capture_output=True,
            text=True,
        )
    except OSError:
        return (
            f"there is no C compiler ({compiler[0]}); on Debian: apt-get install build-essential, "
            "or set CC"
        )
    if tried.returncode == 0:
        return None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not Path(headers, "Python.h").exists():
        return (
            f"the headers of this Python are missing ({headers}/Python.h); on Debian: "
            f"apt-get install python{version}-dev"
        )
    said = tried.stderr.strip()[:200]
    return f"{compiler[0]} finds no headers of the C library and of Linux ({said})"


def index_page() -> str:
    """Make the page of a package index: README.md, whose links to files lead nowhere there."""
    relative = r"\((?!https?:|#)([^)\s]+)\)"
    page = (ROOT / "README.md").read_text()
    page = re.sub(r'<(img|source)[^>]*="(?!https?:)[^>]*>', "", page)  # pictures
    page = re.sub(rf"!\[([^]]*)]{relative}", r"*\1*", page)
    page = re.sub(r"\[(`?)([^]`]+)\1]\((?!https?:|#)\2\)", r"`\2`", page)  # [file](file)
    page = re.sub(rf"\[([^]]+)]{relative}", r"\1 (`\2`)", page)
    return f"{page}\nThe files named here are in the source distribution.\n"


setup(
    cffi_modules=["csrc/build_ffi.py:ffibuilder"],
    cmdclass={"build_ext": BuildChecked},
    ext_modules=[ends],
    long_description=index_page(),
    long_description_content_type="text/markdown",
    options={"bdist_wheel": {"py_limited_api": "cp311"} if LIMITED else {}},
)
