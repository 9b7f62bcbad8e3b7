# SPDX-License-Identifier: MIT
"""What `make lint` gives to the type checkers: the code of the pages, and the imports it needs."""

import ast
import inspect

import check_types
import pytest

import ringbell

PAGE = """Text.

```python
import numpy as np
```

```sh
not python
```

```python
for row in rows:
    lines.send(np.zeros(row))
```
"""


def test_blocks_of_python_are_found_with_their_lines():
    assert [line for line, _ in check_types.blocks(PAGE)] == [4, 12]


def test_a_block_gets_the_imports_shown_before_it_and_types_for_what_it_does_not_make():
    (_, first), (_, second) = check_types.blocks(PAGE)
    shown = check_types.imports(first)
    assert check_types.free_names(second) == ["lines", "np", "rows"]
    given = check_types.context(second, shown)
    assert "import numpy as np" in given
    assert "lines = cast(ringbell.MessageProducer, ...)" in given
    assert "rows = cast(Any, ...)" in given
    assert "\n" not in given  # so that the file's line numbers are those of the page
    ast.parse(given)


def test_names_inside_functions_are_found_too():
    code = "def f(x):\n    return [y + driver.call(x) for y in x]\nlambda: len(np)"
    assert check_types.free_names(code) == ["driver", "np"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("lines.send(b'')", "MessageProducer"),
        ("for x in lines: pass", "MessageConsumer"),
        ("ticks.write(x)", "RecordProducer"),
        ("for x in ticks: x", "RecordConsumer"),
    ],
)
def test_a_name_has_the_type_that_its_use_says(code, kind):
    name = "lines" if "lines" in code else "ticks"
    assert check_types.kind_of(name, code) == f"ringbell.{kind}"


def test_what_is_for_tests_only_is_in_no_public_signature():
    for function in (ringbell.connect, ringbell.listen, ringbell.produce, ringbell.consume):
        names = inspect.signature(function).parameters
        assert not [name for name in names if "index" in name or name.startswith("_")]
        assert "index" not in function.__doc__.replace("event index", "")
