# SPDX-License-Identifier: MIT
"""Write the docstrings of the extension into its stub, where an editor finds them.

    python tests/stub_docs.py

An editor cannot read those of a compiled module. tests/test_ends_stub.py compares the two.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ringbell
from ringbell import _ends

STUB = Path(ringbell.__file__).with_name("_ends.pyi")


def documented(tree: ast.Module) -> Iterator[tuple[Any, str]]:
    """Give the types of the stub and what a user may use of them, with their docstrings."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        real = getattr(_ends, node.name)
        members = [one for one in node.body if isinstance(one, ast.FunctionDef)]
        found = [(node, real), *((one, getattr(real, one.name, None)) for one in members)]
        for one, thing in found:
            if not one.name.startswith("_") and (text := inspect.getdoc(thing)):
                yield one, text


def main() -> None:
    """Write each docstring where the stub has an older one, or dots."""
    source = STUB.read_text()
    lines = source.splitlines()
    for node, text in sorted(documented(ast.parse(source)), key=lambda one: -one[0].lineno):
        indent = " " * (node.col_offset + 4)
        closing = '\n"""' if "\n" in text else '"""'
        written = [f"{indent}{line}".rstrip() for line in f'"""{text}{closing}'.splitlines()]
        first = node.body[0]
        replaced = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if replaced:
            row = first.lineno - 1
            before = lines[row][: first.col_offset].rstrip()
            lines[row : first.end_lineno] = [*([before] if before else []), *written]
        else:
            row = min([first.lineno, *(one.lineno for one in first.decorator_list)]) - 1
            lines[row:row] = written
    STUB.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
