# SPDX-License-Identifier: MIT
"""Only what pyproject.toml cannot say: the cffi extension, and one abi3 wheel from 3.11 on."""

import sysconfig

from setuptools import setup

limited = {} if sysconfig.get_config_var("Py_GIL_DISABLED") else {"py_limited_api": "cp311"}
setup(cffi_modules=["csrc/build_ffi.py:ffibuilder"], options={"bdist_wheel": limited})
