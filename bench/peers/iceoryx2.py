# SPDX-License-Identifier: MIT
"""iceoryx2: publish and subscribe slices of bytes, with the overflow off, so that nothing is lost.

A subscriber cannot wait for samples. The library's examples look again and again, or send an event
after each sample. So the subscriber spins here where speed is measured. It waits for events where a
wait must not burn a CPU.
"""

from __future__ import annotations

import ctypes

import iceoryx2 as iox2

from peers.adaptor import Adaptor, Place, Receiver, Sender

_BUFFER = 4096  # samples


class _Service:
    """A node of one process, and the service of one direction."""

    def __init__(self, place: Place) -> None:
        iox2.set_log_level(iox2.LogLevel.Fatal)
        config = iox2.config.default()
        # So traces.py finds the library's files.
        config.global_cfg.prefix = iox2.FileName.new(place.token)
        config.global_cfg.root_path = iox2.Path.new(place.folder)
        self.node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        self.size = place.size
        self.samples = (
            self._builder()
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .enable_safe_overflow(False)
            .subscriber_max_buffer_size(_BUFFER)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(1)
            .open_or_create()
        )
        self.events = self._builder().event().open_or_create() if place.sleeping else None

    def _builder(self) -> iox2.ServiceBuilder:
        return self.node.service_builder(iox2.ServiceName.new("way"))


class _Sender(Sender):
    def __init__(self, place: Place) -> None:
        self._service = _Service(place)
        self._publisher = (
            self._service.samples.publisher_builder()
            .initial_max_slice_len(place.size)
            .backpressure_strategy(iox2.BackpressureStrategy.RetryUntilDelivered)
            .create()
        )
        if self._service.events:
            self._notifier = self._service.events.notifier_builder().create()
            self.send = self._send_and_notify

    def send(self, payload: bytes) -> None:
        sample = self._publisher.loan_slice_uninit(len(payload))
        ctypes.memmove(sample.payload_ptr, payload, len(payload))
        sample.assume_init().send()

    def _send_and_notify(self, payload: bytes) -> None:
        _Sender.send(self, payload)
        self._notifier.notify()

    def send_all(self, payloads: list[bytes]) -> None:
        loan, memmove, size = self._publisher.loan_slice_uninit, ctypes.memmove, self._service.size
        for payload in payloads:
            sample = loan(size)
            memmove(sample.payload_ptr, payload, size)
            sample.assume_init().send()


class _Receiver(Receiver):
    def __init__(self, place: Place) -> None:
        self._service = _Service(place)
        self._subscriber = self._service.samples.subscriber_builder().buffer_size(_BUFFER).create()
        if self._service.events:
            self._listener = self._service.events.listener_builder().create()
            self.recv = self._await_one

    def recv(self) -> bytes:
        receive = self._subscriber.receive
        while (sample := receive()) is None:
            pass
        return ctypes.string_at(sample.payload_ptr, self._service.size)

    def _await_one(self) -> bytes:
        while (sample := self._subscriber.receive()) is None:
            self._listener.blocking_wait()
        return ctypes.string_at(sample.payload_ptr, self._service.size)

    def take(self, count: int) -> bytes:
        receive, string_at = self._subscriber.receive, ctypes.string_at
        size = self._service.size
        for _ in range(count):
            while (sample := receive()) is None:
                pass
            payload = string_at(sample.payload_ptr, size)
        return payload

    def take_views(self, count: int) -> bytes:
        receive = self._subscriber.receive
        for _ in range(count):
            while (sample := receive()) is None:
                pass
            view = sample.payload().as_memory_view()
        return view.tobytes()


class Peer(Adaptor):
    def sender(self, place: Place) -> _Sender:
        return _Sender(place)

    def receiver(self, place: Place) -> _Receiver:
        return _Receiver(place)
