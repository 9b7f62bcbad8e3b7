# SPDX-License-Identifier: MIT
"""What to say where the package is there and an extension is not: one of its own, or cffi's."""

from __future__ import annotations

from pathlib import Path


def complaint(package: str, missing: str | None) -> str | None:
    """Say why the package with this `__file__` cannot be used, and what to do about it.

    `missing` is the module that was not found. Gives None when that is no module of ours or cffi's.
    """
    if missing not in ("ringbell._ends", "ringbell._ffi", "_cffi_backend"):
        return None
    folder = Path(package).parent
    archive = next((above for above in folder.parents if above.is_file()), None)
    if archive is not None:
        return (
            f"ringbell lies in {archive}, and Python cannot load its extensions out of a zip file; "
            "install ringbell-ipc where the program runs, or pack it with shiv or pex, which unpack"
        )
    if missing == "_cffi_backend":
        return "ringbell needs the package cffi, which this Python does not find; install cffi"
    return (
        f"{folder} has no extensions: these are the sources; run `pip install .` beside them and "
        "start Python in another folder"
    )
