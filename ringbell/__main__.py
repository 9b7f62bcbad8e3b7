# SPDX-License-Identifier: MIT
"""The `ringbell` command; needs the extra `cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say what is missing for it."""
    try:
        from ringbell.command.cli import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"ringbell: the command line needs {error.name}; pip install 'ringbell-ipc[cli]'")
    app()


if __name__ == "__main__":
    main()
