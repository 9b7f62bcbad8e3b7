# SPDX-License-Identifier: MIT
"""The `ringbell` command; needs the extra `cli`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line, or say what is missing for it."""
    try:
        from ringbell.command import standard
        from ringbell.command.cli import app

        standard.occupy()
        standard.print_any_name()
        app()
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("typer", "rich"):
            raise
        sys.exit(f"ringbell: the command line needs {missing}; pip install 'ringbell-ipc[cli]'")
    except KeyboardInterrupt:  # while modules are loaded, or a second one
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # one more shows no traceback of Python's end


if __name__ == "__main__":
    main()
