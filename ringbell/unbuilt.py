# SPDX-License-Identifier: MIT
"""What to say where the package is there and its extensions are not."""

from __future__ import annotations

from pathlib import Path


def complaint(package: str) -> str:
    """Say why the package with this `__file__` cannot be used, and what to do about it."""
    folder = Path(package).parent
    archive = next((above for above in folder.parents if above.is_file()), None)
    if archive is not None:
        return (
            f"ringbell lies in {archive}, and Python cannot load its extensions out of a zip file; "
            "install ringbell-ipc where the program runs, or pack it with shiv or pex, which unpack"
        )
    return (
        f"{folder} has no extensions: these are the sources; run `pip install .` beside them and "
        "start Python in another folder"
    )
