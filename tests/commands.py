# SPDX-License-Identifier: MIT
"""The `ringbell` command, run by tests to its end."""

import subprocess

from processes import RINGBELL
from typer.testing import CliRunner

from ringbell.command import cli


def run(*arguments, **options):
    return subprocess.run(
        [*RINGBELL, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        **options,
    )


def run_here(*arguments, **options):
    """Run the command in this process, which takes a tenth of the time."""
    return CliRunner().invoke(cli.app, [*map(str, arguments)], **options)
