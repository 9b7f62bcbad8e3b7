# SPDX-License-Identifier: MIT
"""Where things live: which folder may import from which, and what the public classes show."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ringbell
from ringbell import aio

ROOT = Path(ringbell.__file__).parent
# From top to bottom. Modules outside of all folders are the ground, except for the public names.
FLOORS = [
    {"command"},
    {"aio", "launching"},
    {"publishing"},
    {"calls", "pipes", "streams"},
    {"ring", "meeting"},
    {"channel"},
]
FILES = sorted(f for f in ROOT.rglob("*.py") if f.parent != ROOT or f.stem[:2] != "__")


def room_of(module):
    """Give the folder that a module lies in; "" is the ground."""
    room = module.split(".")[1]
    return room if any(room in floor for floor in FLOORS) else ""


def floor_of(room):
    return next((i for i, floor in enumerate(FLOORS) if room in floor), len(FLOORS))


def imported(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole way"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def uphill(room, source):
    """Give the imports of a file in `room` that lead to a folder beside or above it."""
    for name in imported(source):
        if name.startswith("ringbell."):
            there = room_of(name)
            if there != room and floor_of(there) <= floor_of(room):
                yield name


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_folder_imports_only_from_below(file):
    room = file.parent.name if file.parent != ROOT else ""
    assert list(uphill(room, file.read_text())) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("ring", "from ringbell.calls.driver import Driver"),
        ("calls", "import ringbell.streams.opening"),
        ("meeting", "def f():\n    from ringbell.ring import producer"),
        ("", "from ringbell.channel.channel import Channel"),
    ],
)
def test_the_check_of_imports_sees_those_that_lead_up_or_beside(room, source):
    assert list(uphill(room, source)) != []


def test_every_folder_says_what_is_in_it_and_nothing_else():
    for folder in set().union(*FLOORS):
        tree = ast.parse((ROOT / folder / "__init__.py").read_text())
        assert ast.get_docstring(tree)
        if folder != "aio":  # which users import
            assert len(tree.body) == 1


# What README.md and docs/guide.md tell users of, and nothing else.
SHOWN = {
    "BlockCounters": "copied lent sent",
    "Blocks": "least pool when_lent",
    "Completion": "ok payload result token",
    "Connection": "close closed fileno poll readable recv recv_bytes recv_bytes_into send "
    "send_bytes writable",
    "Consumer": "borrow fileno hold moderation recv recv_many",
    "ConsumerCounters": "bytes entries kicks_late kicks_saved kicks_sent polling sleeps "
    "spurious_wakeups times_empty wakeups",
    "Device": "close doorbell interrupt stats take",
    "Driver": "call call_and_hold close doorbell in_flight interrupt map max_payload reap reserve "
    "stats submit",
    "Frame": "abandon length payload token",
    "Gather": "close dtype fileno path producers take",
    "GatheredProducer": "bytes entries lost pid since",
    "Lent": "",
    "Listener": "accept close fileno path",
    "MessageConsumer": "as_file borrow close fileno hold moderation peer_pid recv recv_many stats",
    "MessagePublisher": "as_file check_consumer close coalesce max_payload path peer_pid readers "
    "reserve send send_many stats",
    "MessageSubscriber": "as_file borrow close fileno hold latest missed moderation peer_pid recv "
    "recv_many stats",
    "MessageProducer": "as_file check_consumer close coalesce max_payload peer_pid reserve send "
    "send_many stats",
    "Moderation": "delay entries",
    "PollingCounters": "budget_ns capped found grown missed shrunk time_ns",
    "Pool": "close imap_unordered map pids submit",
    "Producer": "coalesce max_payload reserve send send_many",
    "ProducerCounters": "bytes entries kicks_late kicks_saved kicks_sent polling sleeps "
    "spurious_wakeups times_full wakeups",
    "RecordBlock": "abandon count rows",
    "RecordConsumer": "borrow capacity close dtype fileno moderation peer_pid read stats",
    "RecordPublisher": "capacity check_consumer close coalesce dtype path peer_pid readers reserve "
    "stats write",
    "RecordSubscriber": "borrow capacity close dtype fileno latest missed moderation peer_pid read "
    "stats",
    "Reader": "behind counters pid since",
    "RecordProducer": "capacity check_consumer close coalesce dtype peer_pid reserve stats write",
    "Request": "complete fail hold payload token",
    "SideStats": "blocks consumer producer",
    "Stats": "device dri driver dwi iri iwi memory",
    "ServedDriver": "device pid requests since",
    "Server": "close drivers path serve_forever shutdown",
    "Waiter": "add close discard fileno remove wait",
}
# The same of ringbell.aio.
SHOWN_IN_LOOPS = {
    "Device": "close stats take",
    "Driver": "call close in_flight stats",
    "Gather": "close dtype path producers take",
    "Listener": "accept close path",
    "MessageConsumer": "borrow close hold moderation peer_pid recv recv_many stats",
    "MessageProducer": "check_consumer close coalesce max_payload peer_pid reserve send send_many "
    "stats",
    "MessagePublisher": "check_consumer close coalesce max_payload path peer_pid readers reserve "
    "send send_many stats",
    "MessageSubscriber": "borrow close hold latest missed moderation peer_pid recv recv_many stats",
    "Opening": "",
    "RecordConsumer": "borrow capacity close dtype moderation peer_pid read stats",
    "RecordProducer": "capacity check_consumer close coalesce dtype peer_pid reserve stats write",
    "RecordPublisher": "capacity check_consumer close coalesce dtype path peer_pid readers reserve "
    "stats write",
    "RecordSubscriber": "borrow capacity close dtype latest missed moderation peer_pid read stats",
    "Request": "complete fail hold payload token",
}
CLASSES = [name for name in ringbell.__all__ if isinstance(getattr(ringbell, name), type)]


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_shows_what_a_user_may_use_and_nothing_else(name):
    cls = getattr(ringbell, name)
    inherited = set()
    if issubclass(cls, Exception):  # what every exception of its kind has
        inherited.update(*(dir(base) for base in cls.__mro__ if base.__module__ == "builtins"))
    shown = sorted(set(dir(cls)) - inherited)
    assert [n for n in shown if not n.startswith("_")] == SHOWN.get(name, "").split()


def test_public_classes_for_loops_show_what_a_user_may_use_and_nothing_else():
    classes = {name for name in aio.__all__ if isinstance(getattr(aio, name), type)}
    assert classes == set(SHOWN_IN_LOOPS)
    for name in classes:
        shown = [n for n in sorted(dir(getattr(aio, name))) if not n.startswith("_")]
        assert shown == SHOWN_IN_LOOPS[name].split()


def test_what_blocks_has_the_same_name_in_loops():
    """And `map` and files are there by other means."""
    for name, shown in SHOWN_IN_LOOPS.items():
        if name != "Opening":
            assert set(shown.split()) <= set(dir(getattr(ringbell, name)))


def test_completion_shows_what_a_user_may_use_and_nothing_else():
    for module in (ringbell, aio):
        shown = {name for name in dir(module) if not name.startswith("_")}
        assert shown - {"aio"} == set(module.__all__)


def test_help_shows_what_is_loaded_later():
    code = "import pydoc, ringbell; print(pydoc.plain(pydoc.render_doc(ringbell)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    shown = done.stdout
    assert "class Pool(" in shown
    assert "class RecordProducer(" in shown
    assert "    launch(" in shown


def test_the_list_of_what_is_shown_names_public_classes_only():
    assert set(CLASSES).issuperset(SHOWN)


def test_every_folder_goes_into_the_wheel():
    text = (ROOT.parent / "pyproject.toml").read_text()
    listed = set(tomllib.loads(text)["tool"]["setuptools"]["packages"])
    assert listed == {"ringbell", *(f"ringbell.{room}" for room in set().union(*FLOORS))}
