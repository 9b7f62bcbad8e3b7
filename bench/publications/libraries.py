# SPDX-License-Identifier: MIT
"""How each library sends one entry to several readers; bench/README.md says why so."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from peers import registry
from peers.adaptor import Place

import ringbell

PATIENCE = 5.0  # seconds for a message
END = b"end"  # of a run, where messages may be lost


class Library:
    """One library; made in each process of a run."""

    name: str
    package: str | None = None
    loses = False
    """Whether it may lose messages: then END says that there are no more."""
    most = 1 << 20
    """Messages of a run: fewer where there has to be memory for all of them."""

    def __init__(self, place: Place, readers: int) -> None:
        self.place, self.readers = place, readers
        self.end: Any = None
        if self.package:
            registry.add_to_path(self.package)

    def open_sender(self) -> Callable[[bytes], object]:
        """Give what sends one message."""
        raise NotImplementedError

    def open_receiver(self) -> Callable[[], Any]:
        """Give what receives one message."""
        raise NotImplementedError

    def drain(self, receive: Callable[[], Any], count: int) -> tuple[int, Any]:
        """Receive so many messages, or until END; give how many came, and the last one."""
        last = None
        if not self.loses:
            for _ in range(count):
                last = receive()
            return count, last
        got = -1
        message: Any = b""
        while message != END:
            last = message
            message = receive()
            got += 1
        return got, last

    def missed(self) -> int | None:
        """Give how many messages it says were lost; None where it does not say."""
        return None

    def finish(self) -> None:
        """Say END, as often as it takes to come through."""
        self.send_end()

    def send_end(self) -> None:
        """Say it once."""

    def close(self) -> None:
        """Close this side."""


class Stream(Library):
    """A plain stream, for one reader."""

    name = "stream"

    def open_sender(self) -> Callable[[bytes], object]:
        self.end = ringbell.produce(self.place.path)
        return self.end.send

    def open_receiver(self) -> Callable[[], Any]:
        self.end = ringbell.consume(self.place.path)
        return self.end.recv

    def close(self) -> None:
        self.end.close()


class Ours(Library):
    name = "all"
    keep = "all"

    def open_sender(self) -> Callable[[bytes], object]:
        # Room for as many as iceoryx2 keeps; without this option it is 1 MiB.
        ring_size = 1 << 20 if self.place.size < 1 << 12 else 64 * self.place.size
        self.end = ringbell.publish(
            self.place.path, keep=self.keep, min_readers=self.readers, ring_size=ring_size
        )
        return self.end.send

    def open_receiver(self) -> Callable[[], Any]:
        self.end = ringbell.subscribe(self.place.path)
        return self.end.recv

    def missed(self) -> int:
        return self.end.missed

    def close(self) -> None:
        self.end.close()


class Newest(Ours):
    name = "newest"
    keep = "newest"
    loses = True

    def send_end(self) -> None:
        self.end.send(END)


class Kickmsg(Library):
    """A topic. A full ring drops, so there is room for all messages of a run."""

    name = package = "kickmsg"
    most = 1 << 17

    def _open(self, who: str) -> tuple[Any, Any]:
        import kickmsg

        config = kickmsg.Config()
        config.max_subscribers = self.readers
        config.sub_ring_capacity = config.pool_size = 1 << (self.place.count + 64).bit_length()
        config.max_payload_size = self.place.size
        return kickmsg.Node(f"{who}{os.getpid()}", self.place.token), config

    def open_sender(self) -> Callable[[bytes], object]:
        self._node, config = self._open("sender")
        self.end = self._node.advertise_or_join("t", config)
        return self.end.send

    def open_receiver(self) -> Callable[[], Any]:
        self._node, config = self._open("receiver")
        self.end = self._node.subscribe_or_create("t", config)
        receive = self.end.receive
        return lambda: receive(PATIENCE)

    def drain(self, _receive: Callable[[], Any], count: int) -> tuple[int, Any]:
        receive, last = self.end.receive, None
        for got in range(count):
            if (message := receive(PATIENCE)) is None:
                return got, last
            last = message
        return count, last

    def missed(self) -> int:
        return self.end.lost

    def close(self) -> None:
        self.end = None
        with suppress(OSError, RuntimeError):
            self._node.unlink_topic("t")


class Iceoryx2(Library):
    """Slices of bytes, overflow off. A subscriber has no wait: it looks, and yields its CPU."""

    name = package = "iceoryx2"
    events = False

    def _service(self) -> tuple[Any, Any]:
        import ctypes

        import iceoryx2 as iox2

        self._iox2, self._ctypes = iox2, ctypes
        iox2.set_log_level(iox2.LogLevel.Fatal)
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(self.place.token)
        config.global_cfg.root_path = iox2.Path.new(self.place.folder)
        self._node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        self._buffer = 4096 if self.place.size < 1 << 12 else 64  # samples

        def builder() -> Any:
            return self._node.service_builder(iox2.ServiceName.new("way"))

        samples = (
            builder()
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(self._buffer)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(self.readers)
            .open_or_create()
        )
        return samples, builder().event().open_or_create() if self.events else None

    def open_sender(self) -> Callable[[bytes], object]:
        samples, events = self._service()
        self.end = (
            samples.publisher_builder()
            .initial_max_slice_len(self.place.size)
            .backpressure_strategy(self._iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        loan, memmove, size = self.end.loan_slice_uninit, self._ctypes.memmove, self.place.size
        notify = events.notifier_builder().create().notify if events else None

        def send(payload: bytes) -> None:
            sample = loan(size)
            memmove(sample.payload_ptr, payload, size)
            sample.assume_init().send()

        def send_and_notify(payload: bytes) -> None:
            send(payload)
            notify()

        return send_and_notify if events else send

    def open_receiver(self) -> Callable[[], Any]:
        samples, events = self._service()
        self.end = samples.subscriber_builder().buffer_size(self._buffer).create()
        receive, string_at, size = self.end.receive, self._ctypes.string_at, self.place.size
        pause = events.listener_builder().create().blocking_wait if events else os.sched_yield

        def recv() -> bytes:
            while (sample := receive()) is None:
                pause()
            return string_at(sample.payload_ptr, size)

        return recv

    def close(self) -> None:
        self.end = self._node = None


class Iceoryx2Events(Iceoryx2):
    """An event follows each sample, as in its examples of event-based communication."""

    name = "iceoryx2, ev"
    events = True


class Pyzmq(Library):
    """An XPUB is a PUB that tells of its subscribers. It drops above its mark of 1,000."""

    name, package = "pyzmq", "pyzmq"
    loses = True
    drops = True

    def _open(self, kind: str) -> Any:
        import zmq

        self._zmq, self._context = zmq, zmq.Context()
        self.end = self._context.socket(getattr(zmq, kind))
        return self.end

    def open_sender(self) -> Callable[[bytes], object]:
        socket = self._open("XPUB")
        socket.setsockopt(self._zmq.XPUB_VERBOSE, 1)  # it tells of each subscriber
        if not self.drops:
            socket.setsockopt(self._zmq.XPUB_NODROP, 1)
        socket.bind(f"ipc://{self.place.path}")
        for _ in range(self.readers):
            socket.recv()
        return socket.send

    def open_receiver(self) -> Callable[[], Any]:
        socket = self._open("SUB")
        socket.setsockopt(self._zmq.SUBSCRIBE, b"")
        socket.setsockopt(self._zmq.RCVTIMEO, int(PATIENCE * 1000))
        socket.connect(f"ipc://{self.place.path}")
        return socket.recv

    def finish(self) -> None:
        if self.loses:
            for _ in range(20):
                self.end.send(END)
                time.sleep(0.01)

    def close(self) -> None:
        self.end.close(linger=0)
        self._context.term()


class PyzmqWaiting(Pyzmq):
    """With XPUB_NODROP a full subscriber makes `send` wait."""

    name = "pyzmq, wait"
    loses = False
    drops = False


PEERS: list[type[Library]] = [Kickmsg, Iceoryx2, Iceoryx2Events, Pyzmq, PyzmqWaiting]
