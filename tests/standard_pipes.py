# SPDX-License-Identifier: MIT
"""Runs the standard library's own tests of connections with our Pipe in the place of its own.

    python tests/standard_pipes.py [fork|spawn|forkserver ...] [--all] [--blocks] [-k PATTERN]

They come with Python, in the package `test`; nothing is copied from there. Where that package is
not installed this says so, and does nothing. With --all it runs every test there that makes a Pipe,
and with --blocks every message goes by reference.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import multiprocessing.connection
import subprocess
import sys
import unittest
from collections.abc import Iterator

import ringbell

METHODS = ("fork", "spawn", "forkserver")
TESTS = "Connection Poll PicklingConnections TestWait"
# These use a pipe as a means.
MORE = (
    "Process SubclassingProcess Barrier Finalize Logging TestFlags TestTimeouts "
    "TestForkAwareThreadLock TestCloseFds TestIgnoreEINTR TestStartMethod"
)
METHOD = next((word for word in sys.argv[1:] if word in METHODS), "fork")
# In these several processes send on one end, in turn. An end of ours belongs to one process.
LEFT_OUT = ("test_thousand", "test_recursion", "test_level")
PACKAGE = "test._test_multiprocessing"


def is_there() -> bool:
    """Say whether Python came with its tests."""
    try:
        return importlib.util.find_spec(PACKAGE) is not None
    except ModuleNotFoundError:
        return False


if is_there():
    # Before the import, because the tests keep Pipe as an attribute of their classes. This is not
    # only for __main__: a process started by spawn imports this file, and looks for the classes.
    multiprocessing.Pipe = ringbell.Pipe
    if "--blocks" in sys.argv:
        multiprocessing.Pipe = functools.partial(ringbell.Pipe, blocks=ringbell.Blocks(least=1))
    from test import _test_multiprocessing

    _test_multiprocessing.install_tests_in_module_dict(globals(), METHOD)


def chosen(names: str) -> list[str]:
    """Give the names of the classes of tests, as far as this version of Python has them."""
    # The same tests with threads have pipes of their own kind, whose `close` does nothing.
    kinds = ("", "WithProcessesTest")
    return [kind + name for name in names.split() for kind in kinds if kind + name in globals()]


def all_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Give the tests of a suite, which may have other suites in it."""
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from all_of(one)
        else:
            yield one


def is_left_out(test: unittest.TestCase) -> bool:
    """Say whether it does not apply to our pipes, and say so to the reader."""
    if test.id().rpartition(".")[2] not in LEFT_OUT:
        return False
    print(f"left out, because several processes send on one end: {test.id()}")
    return True


def run_here(names: str, pattern: str | None) -> int:
    """Run the tests in this process, with the start method that its arguments name."""
    loader = unittest.TestLoader()
    loader.testNamePatterns = [f"*{pattern}*"] if pattern else None
    loaded = loader.loadTestsFromNames(chosen(names), sys.modules["__main__"])
    suite = unittest.TestSuite(test for test in all_of(loaded) if not is_left_out(test))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun > len(result.skipped) else 1


def main() -> int:
    """Run the tests in a process of their own for each start method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("methods", nargs="*", choices=[*METHODS, []], metavar="|".join(METHODS))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--blocks", action="store_true")
    parser.add_argument("-k", metavar="PATTERN")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not is_there():
        print(f"skipped: this Python came without its tests (the package {PACKAGE})")
        return 0
    if options.here:
        return run_here(f"{TESTS} {MORE}" if options.all else TESTS, options.k)
    more = [argument for argument in sys.argv[1:] if argument not in METHODS]
    failed = []
    for method in options.methods or METHODS:
        print(f"---- {method}", flush=True)
        if subprocess.run(
            [sys.executable, __file__, method, *more, "--here"], check=False
        ).returncode:
            failed.append(method)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
