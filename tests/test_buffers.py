# SPDX-License-Identifier: MIT
"""Buffers of other libraries go in, and wrap what comes out without a copy."""

import array
import warnings

import numpy as np
import pytest
from memory import address_of_slots


def numpy_buffer():
    return np.arange(16, dtype="u1"), lambda view: np.frombuffer(view, "u1").ctypes.data


def torch_buffer():
    torch = pytest.importorskip("torch")

    def address(view):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it is read-only
            return torch.frombuffer(view, dtype=torch.uint8).data_ptr()

    return torch.arange(16, dtype=torch.uint8).numpy(), address


def pyarrow_buffer():
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.py_buffer(bytes(range(16))), lambda view: pyarrow.py_buffer(view).address


@pytest.mark.parametrize("library", [numpy_buffer, torch_buffer, pyarrow_buffer])
def test_buffers_of_other_libraries_go_in_and_views_of_them_are_no_copies(stream, library):
    payload, address = library()
    producer, consumer = stream()
    producer.send(b"first")
    producer.send(payload)
    assert consumer.recv() == b"first"
    view = consumer.borrow()
    assert bytes(view) == bytes(range(16))
    assert address(view) == address_of_slots(consumer) + 64 + 16  # a slot, and a frame's header


@pytest.mark.parametrize("library", [numpy_buffer, torch_buffer, pyarrow_buffer])
def test_borrowed_records_are_no_copies_to_other_libraries(stream, library):
    payload, address = library()
    producer, consumer = stream("u1")
    assert producer.write(np.frombuffer(payload, "u1")) == 16
    rows = consumer.borrow()
    assert rows.tolist() == list(range(16))
    assert address(rows) == address_of_slots(consumer)


@pytest.mark.parametrize(
    "payload", [b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array.array("B", b"abcd")]
)
def test_buffers_of_the_standard_library_go_in(stream, payload):
    producer, consumer = stream()
    producer.send(payload)
    producer.send_many([payload, payload])
    with producer.reserve(4) as frame:
        frame.payload[:] = payload
    assert [bytes(message) for _, message in zip(range(4), consumer, strict=False)] == [b"abcd"] * 4
