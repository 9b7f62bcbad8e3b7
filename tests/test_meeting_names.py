# SPDX-License-Identifier: MIT
"""Names of those who wait: relative, short, freed at the end, and swept."""

import contextlib
import gc
import os
import subprocess
import sys
import threading

import pytest

import ringbell
from ringbell.meeting.control_socket import sweep_names


def test_a_relative_path_is_removed_after_a_change_of_the_folder(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    listener = ringbell.listen("./here.sock")
    monkeypatch.chdir("/")
    assert listener.path == path.parent / "here.sock"
    with contextlib.suppress(TimeoutError):
        listener.accept(timeout=0)
    listener.close()
    assert not list(path.parent.iterdir())


def test_a_relative_path_may_be_short_where_the_whole_is_too_long(path, monkeypatch):
    folder = path.parent / ("x" * 120)
    folder.mkdir()
    monkeypatch.chdir(folder)
    with ringbell.listen("./a.sock") as listener:
        thread = threading.Thread(target=lambda: listener.accept().close())
        thread.start()
        ringbell.connect("./a.sock").close()
        thread.join()
    assert not list(folder.iterdir())
    folder.rmdir()


def test_a_listener_that_is_dropped_frees_its_name(path):
    listener = ringbell.listen(path)
    child = os.fork()
    if not child:
        del listener  # it is the parent's
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.exists()
    with pytest.warns(ResourceWarning, match="nobody closed what listens on"):
        del listener
        gc.collect()
    assert not list(path.parent.iterdir())


def test_a_process_that_ends_without_a_close_leaves_no_name(path):
    code = "import ringbell, sys; listener = ringbell.listen(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, path], check=True)
    assert not list(path.parent.iterdir())


def test_what_killed_processes_left_is_swept_at_the_next_creation(start, path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    folder = path.parent / "ringbell"
    dead, alive = start("nothing"), start("nothing")
    dead.run("listeners = [ringbell.listen(f'dead{i}') for i in range(3)]")
    alive.run("listener = ringbell.listen('alive')")
    dead.kill()
    (folder / "other.txt").write_text("not ours")
    with ringbell.listen("new"):
        names = {file.name for file in folder.iterdir()}
        assert names == {
            "other.txt", "alive.sock", "alive.sock.lock", "new.sock", "new.sock.lock"
        }  # fmt: skip
    alive.kill()
    assert sweep_names() == [folder / "alive.sock"]
    assert sweep_names() == []
    assert [file.name for file in folder.iterdir()] == ["other.txt"]


def test_only_the_folder_of_plain_names_is_swept(start, path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent / "elsewhere"))
    (path.parent / "elsewhere").mkdir()
    start("device").kill()
    ringbell.listen(path.with_name("other.sock")).close()
    assert path.exists()
    assert sweep_names() == []
    path.unlink()
