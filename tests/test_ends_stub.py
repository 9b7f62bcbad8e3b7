# SPDX-License-Identifier: MIT
"""The stubs of the extensions say what those have: names, parameters and docstrings."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import stub_docs

import ringbell
from ringbell import _ends
from ringbell._ffi import lib

STUB = ast.parse(Path(ringbell.__file__).with_name("_ends.pyi").read_text())
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
CONSTANTS = {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign)} - {"_Many"}
# What every object has. Another test is about __new__.
INHERITED = {
    "__doc__",
    "__module__",
    "__repr__",
    "__getattribute__",
    "__new__",
    "__reduce__",  # which refuses to be copied
}


def functions(node):
    return [one for one in node.body if isinstance(one, ast.FunctionDef)]


def is_property(function):
    return is_decorated(function, "property")


def is_decorated(node, name):
    return any(isinstance(one, ast.Name) and one.id == name for one in node.decorator_list)


def in_the_stub(node):
    names = {function.name for function in functions(node)} - {"__new__"}
    return names | {one.target.id for one in node.body if isinstance(one, ast.AnnAssign)}


def in_the_extension(kind):
    return set(vars(kind)) - INHERITED


def test_the_stub_names_the_types_and_functions_that_are_there():
    kinds = {name for name, value in vars(_ends).items() if isinstance(value, type)}
    assert kinds == set(CLASSES)
    names = {name for name in vars(_ends) if not name.startswith("__")}
    assert names == kinds | set(FUNCTIONS) | CONSTANTS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_stub_gives_the_parameters_of_a_function(name):
    given = [one.arg for one in FUNCTIONS[name].args.posonlyargs]
    assert given == list(inspect.signature(getattr(_ends, name)).parameters)
    assert inspect.getdoc(getattr(_ends, name))


@pytest.mark.parametrize("name", CLASSES)
def test_the_stub_names_what_a_type_has(name):
    assert in_the_stub(CLASSES[name]) == in_the_extension(getattr(_ends, name))


@pytest.mark.parametrize("name", CLASSES)
def test_the_stub_names_the_base_of_a_type(name):
    bases = [base.id for base in CLASSES[name].bases if isinstance(base, ast.Name)]
    kind = getattr(_ends, name)
    assert kind.__base__.__name__ == (bases[0] if bases else "object")
    final = is_decorated(CLASSES[name], "final")
    assert final == (not kind.__flags__ & (1 << 10))  # Py_TPFLAGS_BASETYPE


METHODS = [
    (kind, function)
    for kind, node in CLASSES.items()
    for function in functions(node)
    if not is_property(function) and not function.name.startswith("_")
]


@pytest.mark.parametrize(("kind", "function"), METHODS, ids=lambda one: getattr(one, "name", one))
def test_the_stub_gives_the_parameters_of_a_method(kind, function):
    real = inspect.signature(getattr(getattr(_ends, kind), function.name))
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [inspect.Parameter.empty] * (len(positional) - len(given.defaults))
    defaults += [ast.literal_eval(default) for default in given.defaults]
    keywords = [ast.literal_eval(default) for default in given.kw_defaults]
    kinds = [inspect.Parameter.POSITIONAL_ONLY] * len(given.posonlyargs)
    kinds += [inspect.Parameter.POSITIONAL_OR_KEYWORD] * len(given.args)
    parameters = [
        (one.arg, default, kind)
        for one, default, kind in zip(positional, defaults, kinds, strict=True)
    ][1:] + [
        (one.arg, default, inspect.Parameter.KEYWORD_ONLY)
        for one, default in zip(given.kwonlyargs, keywords, strict=True)
    ]
    found = [(one.name, one.default, one.kind) for one in list(real.parameters.values())[1:]]
    assert found == parameters


@pytest.mark.parametrize("name", CLASSES)
def test_what_the_stub_calls_a_property_is_read_only_and_all_else_is_not(name):
    kind = getattr(_ends, name)
    for function in functions(CLASSES[name]):
        if is_property(function):
            assert inspect.isdatadescriptor(getattr(kind, function.name))
        else:
            assert callable(getattr(kind, function.name))


def test_an_editor_finds_the_docstrings_of_the_extension_in_the_stub():
    texts = list(stub_docs.documented(STUB))
    assert len(texts) > 40
    for node, text in texts:
        assert ast.get_docstring(node) == text, f"{node.name}: run `make format`"


# test_house.py says which names are public.
PUBLIC = [kind for kind in map(vars(ringbell).get, ringbell.__all__) if isinstance(kind, type)]


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_all_that_is_public_has_a_docstring(kind):
    assert inspect.getdoc(kind)
    if dataclasses.is_dataclass(kind) or issubclass(kind, Exception):
        return
    for name in (name for name in dir(kind) if not name.startswith("_")):
        text = inspect.getdoc(inspect.getattr_static(kind, name))
        assert text, name
        assert text[0].isupper(), text
    for name in ("__enter__", "__exit__"):
        if name in vars(kind):
            assert inspect.getdoc(vars(kind)[name]), name


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"End"}))
def test_what_has_no_constructor_in_the_stub_cannot_be_made(name):
    made = any(function.name == "__new__" for function in functions(CLASSES[name]))
    with pytest.raises(TypeError) as raised:
        getattr(_ends, name)()
    assert ("cannot create" in str(raised.value)) == (not made)


def test_the_stub_names_what_the_extension_has():
    stub = (ringbell.__file__).replace("__init__.py", "_ffi.pyi")
    with open(stub) as file:
        words = set(file.read().replace("(", " ").replace(":", " ").split())
    assert {name for name in words if name.lower().startswith("rb_")} == set(dir(lib))
