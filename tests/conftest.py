# SPDX-License-Identifier: MIT
from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import launched
import pytest
from loops import LOOPS
from processes import METHODS, Peer, wait_until

import ringbell

# A shell's background job ignores Ctrl-C, and so would the processes that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rb-") as folder:
        yield Path(folder) / "t.sock"


@pytest.fixture
def start(path: Path) -> Iterator[Callable[..., Peer]]:
    """Start other processes, and end them whatever happens."""
    with ExitStack() as guard:

        def start_peer(role: str, wait: bool = True, **options: object) -> Peer:
            peer = Peer(role, path, options)
            guard.callback(peer.end)
            if wait:
                assert peer.reply() == "ready"
            return peer

        yield start_peer


@pytest.fixture
def connect(path: Path) -> Iterator[Callable[..., ringbell.Driver]]:
    with ExitStack() as guard:
        yield lambda **options: guard.enter_context(ringbell.connect(path, **options))


@pytest.fixture
def server(
    start: Callable[..., Peer], connect: Callable[..., ringbell.Driver]
) -> Callable[..., ringbell.Driver]:
    """Serve with a handler for objects in another process; give its driver."""

    def serve(handler="back", ring_size=1 << 20, **options):
        start("serve", handler=handler, codec="pickle", **options)
        return connect(codec="pickle", ring_size=ring_size)

    return serve


@pytest.fixture
def both(
    start: Callable[..., Peer], connect: Callable[..., ringbell.Driver]
) -> Callable[..., tuple[ringbell.Driver, Peer]]:
    """Make a driver here, and a device in another process."""

    def make(moderation=None, polling="never", **options):
        device = start("device", polling=polling)
        driver = connect(**options)
        if moderation:
            device.run(f"setattr(device.doorbell, 'moderation', ringbell.{moderation!r})")
        return driver, device

    return make


@pytest.fixture
def asleep(
    both: Callable[..., tuple[ringbell.Driver, Peer]],
) -> Callable[..., tuple[ringbell.Driver, Peer]]:
    """The same; the device sleeps over an empty doorbell ring, and is stopped there."""

    def make(**options):
        driver, device = both(**options)
        device.begin("""
while message := device.doorbell.recv():
    pass
""")
        wait_until(lambda: driver.stats().device.consumer.sleeps >= 1)
        device.stop()
        return driver, device

    return make


@pytest.fixture
def pair(path: Path) -> Iterator[Callable[..., tuple[ringbell.Driver, ringbell.Device]]]:
    """Both sides in this process, for what needs no waiting."""
    with ExitStack() as guard:

        def make_pair(listen=None, **options):
            with ringbell.listen(path, **(listen or {})) as listener:
                accepted = []
                thread = threading.Thread(target=lambda: accepted.append(listener.accept()))
                thread.start()
                driver = guard.enter_context(ringbell.connect(path, **options))
                thread.join()
            return driver, guard.enter_context(accepted[0])

        yield make_pair


@pytest.fixture
def pairs(
    path: Path,
) -> Iterator[Callable[..., tuple[list[ringbell.Driver], list[ringbell.Device]]]]:
    """Make many pairs: drivers and devices, all in this process."""
    with ExitStack() as guard:

        def make(count, **options):
            drivers, devices = [], []
            with ringbell.listen(path, **options) as listener:
                for _ in range(count):
                    thread = threading.Thread(target=lambda: devices.append(listener.accept()))
                    thread.start()
                    drivers.append(guard.enter_context(ringbell.connect(path, **options)))
                    thread.join()
                    guard.enter_context(devices[-1])
            return drivers, devices

        yield make


@pytest.fixture
def sockets() -> Iterator[Callable[[], list[socket.socket]]]:
    """Make pairs of sockets that are closed at the end."""
    with ExitStack() as guard:
        yield lambda: [guard.enter_context(one) for one in socket.socketpair()]


@contextmanager
def ended(producer: Any) -> Iterator[Any]:
    """Close the producer at the end, even if its consumer has not taken everything."""
    try:
        yield producer
    finally:
        with suppress(ringbell.EndOfStream, ringbell.PeerLost):
            producer.close()


@pytest.fixture
def produce(path: Path) -> Iterator[Callable[..., Any]]:
    """Begin a stream to a consumer that was started before."""
    with ExitStack() as guard:
        yield lambda *args, **options: guard.enter_context(
            ended(ringbell.produce(path, *args, **options))
        )


@pytest.fixture
def consume(path: Path) -> Iterator[Callable[..., Any]]:
    """Take the stream of a producer that was started before."""
    with ExitStack() as guard:
        yield lambda *args, **options: guard.enter_context(ringbell.consume(path, *args, **options))


@pytest.fixture
def stream(path: Path) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Both ends of a stream in this process, for what needs no waiting."""
    with ExitStack() as guard:

        def make_stream(dtype=None, consume=None, **options):
            consumed = []
            thread = threading.Thread(
                target=lambda: consumed.append(ringbell.consume(path, **(consume or {})))
            )
            thread.start()
            producer = guard.enter_context(ended(ringbell.produce(path, dtype, **options)))
            thread.join()
            return producer, guard.enter_context(consumed[0])

        yield make_stream


@pytest.fixture
def gather(path: Path) -> Iterator[Callable[..., Any]]:
    """Gather in this process."""
    with ExitStack() as guard:
        yield lambda *args, **options: guard.enter_context(ringbell.gather(path, *args, **options))


@pytest.fixture
def producers(start: Callable[..., Peer]) -> Callable[..., list[Peer]]:
    """Start producers; each has met the gather once `gathered.meet` has let it in."""

    def begin(count, **options):
        return [start("producer", **options) for _ in range(count)]

    return begin


@pytest.fixture
def publish(path: Path) -> Iterator[Callable[..., Any]]:
    """Publish in this process."""
    with ExitStack() as guard:
        yield lambda *args, **options: guard.enter_context(ringbell.publish(path, *args, **options))


@pytest.fixture
def subscribe(path: Path) -> Iterator[Callable[..., Any]]:
    """Subscribe in this process, to who publishes already."""
    with ExitStack() as guard:
        yield lambda *args, **options: guard.enter_context(
            ringbell.subscribe(path, *args, **options)
        )


@pytest.fixture
def pipe() -> Iterator[Callable[..., tuple[ringbell.Connection, ringbell.Connection]]]:
    """Make pipes that are closed at the end."""
    with ExitStack() as guard:

        def make_pipe(duplex=True, **options):
            one, other = ringbell.Pipe(duplex, **options)
            return guard.enter_context(one), guard.enter_context(other)

        yield make_pipe


@pytest.fixture
def names(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Names lie in a folder of this test; none is left, and no process."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path.parent))
    folder = path.parent / "ringbell"
    yield folder
    assert not folder.exists() or list(folder.iterdir()) == []
    assert multiprocessing.active_children() == []


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Which event loop the tasks run in."""
    return request.param


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """How a new process is started."""
    return request.param


@pytest.fixture
def run(method: str) -> Iterator[Callable[..., Any]]:
    """Start functions in other processes; end the processes, whatever happens."""
    context = multiprocessing.get_context(method)
    started = []

    def start(function, *arguments, **named):
        process = context.Process(target=function, args=arguments, kwargs=named)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
        process.close()


@pytest.fixture
def pool() -> Iterator[ringbell.Pool]:
    """Make a pool of two workers."""
    made = ringbell.Pool(launched.does, 2)
    yield made
    made._give_up()  # a test that fails may leave it busy


@pytest.fixture
def sharer() -> Iterator[None]:
    """End the thread of multiprocessing that hands out descriptors."""
    yield
    resource_sharer.stop(timeout=30)


def _descriptors() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:
            continue  # the one that lists them
    return sorted(name.split(":")[0] if name.startswith("socket") else name for name in found)


def _segments() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("ringbell")}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Each test gives back its segments, descriptors and threads, also when it fails."""
    segments, descriptors = _segments(), _descriptors()
    threads = threading.active_count()  # pytest-xdist has one of its own
    gc.freeze()  # spares gc.collect() the many objects of the libraries
    yield
    gc.collect()
    assert _segments() <= segments
    left = [name for name in _descriptors() if "pipe:" not in name]
    assert left == [name for name in descriptors if "pipe:" not in name]
    assert threading.active_count() == threads
