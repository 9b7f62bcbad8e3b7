# SPDX-License-Identifier: MIT
"""What a user sees who builds or packs the package; `make wheels` tries the wheel itself."""

import functools
import json
import re
import subprocess
import sys
import tomllib
import zipapp
from pathlib import Path

import pytest

import ringbell

ROOT = Path(__file__).parent.parent
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Runs setup.py as far as its setup(), twice, and shows what it gives to that.
SETUP = """
import json, os, sys, sysconfig
known = sysconfig.get_config_var
import setuptools
def run(without_a_gil):
    sysconfig.get_config_var = lambda name: (
        without_a_gil if name == "Py_GIL_DISABLED" else known(name)
    )
    given = {}
    setuptools.setup = lambda **words: given.update(words)
    names = {"__file__": "setup.py", "__name__": "__main__"}
    exec(compile(open("setup.py").read(), "setup.py", "exec"), names)
    return given, names["what_is_missing"]
def limits(given):
    ends = given["ext_modules"][0]
    return [ends.py_limited_api, dict(ends.define_macros), given["options"]["bdist_wheel"]]
given, what_is_missing = run(0)
shown = {
    "limited": limits(given),
    "without a GIL": limits(run(1)[0]),
    "page": given["long_description"],
}
missing = shown["missing"] = {"here": what_is_missing()}
for compiler in ("no-such-compiler -O2", "false"):
    os.environ["CC"] = compiler
    missing[compiler.split()[0]] = what_is_missing()
sysconfig.get_path = lambda name: "/nowhere"
missing["headers"] = what_is_missing()
sys.platform = "darwin"
missing["darwin"] = what_is_missing()
print(json.dumps(shown))
"""


@functools.cache
def run_setup():
    pytest.importorskip("setuptools")
    done = subprocess.run([sys.executable, "-c", SETUP], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_there_is_one_wheel_for_all_interpreters_with_a_gil():
    limited, macros, wheel = run_setup()["limited"]
    assert limited
    assert macros["Py_LIMITED_API"] == "0x030b0000"
    assert wheel == {"py_limited_api": "cp311"}


def test_without_a_gil_there_is_no_limited_api():
    limited, macros, wheel = run_setup()["without a GIL"]
    assert not limited
    assert "Py_LIMITED_API" not in macros
    assert wheel == {}


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("no-such-compiler", "there is no C compiler (no-such-compiler); on Debian: apt-get"),
        ("false", "false finds no headers of the C library and of Linux"),
        ("headers", "the headers of this Python are missing (/nowhere/Python.h); on Debian: apt"),
        ("darwin", "it works on Linux only, and this is darwin"),
    ],
)
def test_what_a_build_misses_is_told_in_one_line(where, told):
    missing = run_setup()["missing"]
    assert missing["here"] is None
    assert missing[where].startswith(told)
    assert "\n" not in missing[where]


def test_the_page_for_an_index_has_no_link_to_a_file():
    page = run_setup()["page"]
    assert re.findall(r"\]\((?!https?:|#)[^)]*\)", page) == []
    assert "`docs/guide.md`" in page
    assert "](docs/" in (ROOT / "README.md").read_text(), "nothing had to be changed"


def test_the_version_is_the_same_everywhere():
    assert METADATA["project"]["version"] == ringbell.__version__


def test_nobody_is_sent_to_another_distribution():
    """On PyPI the name ringbell is somebody else's."""
    assert METADATA["project"]["name"] == "ringbell-ipc"
    files = [ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("*.md")]
    for folder in ("ringbell", "docs", "examples", "bench"):
        files += [f for f in (ROOT / folder).rglob("*") if f.suffix in (".py", ".md", ".sh")]
    other = re.compile(r"""(install|uv add|uvx|pipx run)\s+(-\S+\s+)*['"`]?ringbell(?!-ipc)\b""")
    assert other.search("pip install -U 'ringbell[cli]'")
    found = [
        f"{file.name}: {line}"
        for file in files
        for line in file.read_text().splitlines()
        if other.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("cffi", ["installed", "in the zip file, too"])
def test_a_zip_application_is_told_that_extensions_do_not_load_from_there(tmp_path, cffi):
    package = tmp_path / "app" / "ringbell"
    for file in (ROOT / "ringbell").rglob("*.py"):
        copy = package / file.relative_to(ROOT / "ringbell")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(file.read_text())
    (tmp_path / "app/__main__.py").write_text("import ringbell\n")
    zipapp.create_archive(tmp_path / "app", tmp_path / "app.pyz")
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            START,
            tmp_path / "app.pyz",
            *(sys.path * (cffi == "installed")),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: ringbell lies in {tmp_path / 'app.pyz'}, and Python cannot"
    )
    assert "ringbell-ipc" in last


# Without the finder of an editable install, which would come first.
START = """
import runpy, sys
archive, *rest = sys.argv[1:]
sys.path[:] = [one for one in rest or sys.path if one]
runpy.run_path(archive, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (sys.path, "has no extensions: these are the sources; run `pip install .`"),
        ([], "ringbell needs the package cffi, which this Python does not find; install cffi"),
    ],
)
def test_an_extension_that_is_not_there_is_told_with_what_to_do(tmp_path, paths, said):
    package = tmp_path / "ringbell"
    package.mkdir()
    for name in ("__init__.py", "unbuilt.py"):
        (package / name).write_text((ROOT / "ringbell" / name).read_text())
    code = f"import sys; sys.path[:] = {[str(tmp_path), *paths]} + sys.path; import ringbell"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert said in done.stderr
