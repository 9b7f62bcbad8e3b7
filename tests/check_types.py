# SPDX-License-Identifier: MIT
"""What type checkers say of the package, and of the code that its pages show.

    python tests/check_types.py

Each block of Python of README.md and docs/ becomes a file, as it stands there, with the imports
that its page has shown before it. A name that a block uses and does not make, such as `driver`,
gets the type that its use says. mypy and pyright then read the package, these files, examples/ and
tests/typed/, as for the oldest Python that we support and for a newer one; errors name the page and
the line.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import os
import re
import shutil
import subprocess
import symtable
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ringbell

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WRITTEN = ROOT / "build/pages"
PYTHONS = ("3.11", "3.13")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# The types of names that a page does not make. The first one that has the attributes counts.
KINDS = {
    "driver": ("Driver",),
    "device": ("Device",),
    "listener": ("Listener",),
    "request": ("Request",),
    "completion": ("Completion",),
    "producer": ("RecordProducer", "MessageProducer"),
    "consumer": ("RecordConsumer", "MessageConsumer"),
    "ticks": ("RecordProducer", "RecordConsumer"),
    "lines": ("MessageProducer", "MessageConsumer"),
}


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Give the number of each block's first line, and its code."""
    for found in BLOCK.finditer(text):
        yield text.count("\n", 0, found.start(1)) + 1, found[1]


def free_names(code: str) -> list[str]:
    """Give the names that the code uses and does not make."""

    def used(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and symbol.is_global():
                yield symbol.get_name()
        for inner in table.get_children():
            yield from used(inner)

    top = symtable.symtable(code, "<page>", "exec")
    made = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    uses = {one.get_name() for one in top.get_symbols() if one.is_referenced()}
    uses.update(used(top))
    return sorted(uses - made - set(dir(builtins)) - {"__name__", "__file__"})


def imports(code: str) -> dict[str, str]:
    """Give the statement that imports each name, for the names that the code imports."""
    return {
        (name.asname or name.name).split(".")[0]: ast.unparse(node)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in node.names
    }


def kind_of(name: str, code: str) -> str:
    """Give the type of a name that the page does not make, by what the code does with it."""
    needed = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == name:
            needed.add(node.attr)
        if isinstance(node, ast.For) and getattr(node.iter, "id", "") == name:
            needed.add("__iter__")
    for kind in KINDS.get(name, ()):
        if all(hasattr(getattr(ringbell, kind), attribute) for attribute in needed):
            return f"ringbell.{kind}"
    return f"ringbell.{KINDS[name][0]}" if name in KINDS else "Any"


def context(code: str, shown: dict[str, str]) -> str:
    """Give one line with the imports and types that the block needs."""
    needs = ["from typing import Any, cast", "import ringbell"]
    for name in free_names(code):
        if name == "ringbell":
            continue
        if name in shown:
            needs.append(shown[name])
        elif name not in KINDS and importlib.util.find_spec(name):
            needs.append(f"import {name}")
        else:
            needs.append(f"{name} = cast({kind_of(name, code)}, ...)")
    return "; ".join(needs)


def write_files() -> dict[str, Path]:
    """Write a file for each block. Its lines have the numbers that they have in the page."""
    shutil.rmtree(WRITTEN, ignore_errors=True)
    WRITTEN.mkdir(parents=True)
    pages = {}
    for page in PAGES:
        shown: dict[str, str] = {}
        for line, code in blocks(page.read_text()):
            stem = re.sub(r"\W", "_", str(page.relative_to(ROOT).with_suffix("")))
            file = WRITTEN / f"{stem}_{line}.py"
            try:
                text = context(code, shown) + "\n" * (line - 1) + code
                shown |= imports(code)
            except SyntaxError as error:
                sys.exit(f"{page.relative_to(ROOT)}:{line + (error.lineno or 1) - 1}: {error.msg}")
            file.write_text(text)
            pages[str(file.relative_to(ROOT))] = page.relative_to(ROOT)
    if Path("README.md") not in pages.values() or len(set(pages.values())) < 2:
        sys.exit("README.md, or all pages of docs/, show no code: did the fences change?")
    return pages


def run(*command: str) -> tuple[int, str]:
    """Run a checker at the root, where it finds the package."""
    # pyright finds the libraries of an environment only if that is the active one.
    folder = Path(sys.executable).parent
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "VIRTUAL_ENV": str(folder.parent),
    }
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def main() -> None:
    """Run all checkers; exit with 1 if one of them finds something."""
    pages = write_files()
    examples = ["examples"] if list(ROOT.glob("examples/*.py")) else []
    read = ["ringbell", str(WRITTEN.relative_to(ROOT)), *examples, "tests/typed"]
    commands = [
        *(("mypy", "--python-version", version, *read) for version in PYTHONS),
        *(("pyright", "--pythonversion", version, *read) for version in PYTHONS),
        ("pyright", "--verifytypes", "ringbell", "--ignoreexternal"),
    ]
    # Two CPUs are quickest with this many at a time.
    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda command: run(*command), commands))
    failed = False
    for command, (status, output) in zip(commands, results, strict=True):
        if status:
            failed = True
            for file, page in pages.items():
                output = output.replace(f"{ROOT}/{file}", str(page)).replace(file, str(page))
            print(f"$ {' '.join(command)}\n{output}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
