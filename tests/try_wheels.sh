#!/usr/bin/env bash
# Installs what is in dist/ into empty environments, away from the sources, and makes a call with it:
# the wheel on every CPython from 3.11 on that is there, the sdist on the first of them.
set -euo pipefail
dist=$(cd "$(dirname "$0")/../dist" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > try.py <<'PYTHON'
import importlib.metadata, os, subprocess, sys, ringbell

if sys.argv[1:] == ["device"]:
    ringbell.serve(os.path.abspath("try.sock"), lambda payload: bytes(payload)[::-1])
else:
    device = subprocess.Popen([sys.executable, __file__, "device"])
    try:
        while True:
            try:
                driver = ringbell.connect(os.path.abspath("try.sock"))
                break
            except ConnectionRefusedError:
                assert device.poll() is None
        with driver:
            assert driver.call(b"hello") == b"olleh"
            assert list(driver.map([b"ab"] * 1000)) == [b"ba"] * 1000
    finally:
        device.kill()
        device.wait()
    assert importlib.metadata.version("ringbell-ipc") == ringbell.__version__
    print(f"ringbell {ringbell.__version__} works on CPython {sys.version.split()[0]}")
PYTHON

interpreter() { # the first that runs of: on the path, of pyenv
	local version=$1 candidate
	for candidate in "python$version" "$(pyenv root 2>/dev/null || true)"/versions/"$version"*/bin/python; do
		if "$candidate" -c "import sys; assert sys.version_info[:2] == (3, ${version#3.})" 2>/dev/null; then
			command -v "$candidate"
			return
		fi
	done
}

try() { # interpreter, what to install
	"$1" -m venv "$work/venv"
	"$work/venv/bin/python" -m pip install -qq --disable-pip-version-check "$2"
	rm -f try.sock*
	"$work/venv/bin/python" try.py
	rm -rf "$work/venv"
}

tried=0
for version in 3.11 3.12 3.13 3.14; do
	python=$(interpreter "$version")
	[ -n "$python" ] || continue
	if [ "$tried" = 0 ]; then
		try "$python" "$(ls "$dist"/*.tar.gz)"
	fi
	try "$python" "$(ls "$dist"/*.whl)"
	tried=$((tried + 1))
done
[ "$tried" -gt 0 ] || { echo "no CPython from 3.11 on was found" >&2; exit 1; }
