# SPDX-License-Identifier: MIT
"""Streams of messages as binary files, and what other libraries send through them."""

import csv
import hashlib
import io
import pickle
import random
import threading

import numpy as np
import pytest
from processes import interruption

import ringbell

SMALL_RING = 4096


def test_bytes_arrive_in_their_order_whatever_the_sizes(start, produce):
    consumer = start("consumer")
    producer = produce(ring_size=SMALL_RING)
    consumer.begin("""
import hashlib, random
rng, digest, size, file = random.Random(2), hashlib.sha256(), 0, consumer.as_file()
while octets := file.read(rng.choice((1, 7, 100, 5000, 70_000))):
    digest.update(octets)
    size += len(octets)
""")
    rng, digest, size = random.Random(1), hashlib.sha256(), 0
    file = producer.as_file()
    for _ in range(300):
        octets = rng.randbytes(rng.choice((0, 1, 50, 1000, 4096, 20_000)))
        assert file.write(octets) == len(octets)
        digest.update(octets)
        size += len(octets)
    producer.close()
    consumer.reply()
    assert consumer.run("size, digest.hexdigest()") == str((size, digest.hexdigest()))


def test_the_files_are_binary_files(stream):
    producer, consumer = stream()
    source, sink = consumer.as_file(), producer.as_file()
    assert (source.readable(), source.writable(), source.seekable()) == (True, False, False)
    assert (sink.readable(), sink.writable(), sink.seekable()) == (False, True, False)
    assert not source.closed and not sink.closed
    sink.write(np.arange(3, dtype="u2"))
    sink.flush()
    target = bytearray(6)
    assert source.readinto(target) == 6
    assert bytes(target) == np.arange(3, dtype="u2").tobytes()
    with pytest.raises(io.UnsupportedOperation):
        sink.read(1)
    with pytest.raises(io.UnsupportedOperation):
        source.write(b"x")
    with pytest.raises(TypeError, match="str"):
        sink.write("text")


def test_what_has_arrived_is_read_before_more_comes(stream):
    producer, consumer = stream()
    source, sink = consumer.as_file(), producer.as_file()
    sink.write(b"first")
    sink.write(b"")
    sink.write(b"second")
    assert source.read1(100) == b"first"
    assert source.read(3) == b"sec"
    assert source.read1(100) == b"ond"
    assert producer.stats().driver.producer.entries == 2, "nothing is sent for no bytes"


def test_empty_messages_are_no_end(stream):
    producer, consumer = stream()
    producer.send_many([b"", b"a", b"", b"b"])
    producer.close()
    source = consumer.as_file()
    assert source.read() == b"ab"
    assert source.read() == b""


def test_lines_pickles_and_tables_of_text_go_through(stream):
    producer, consumer = stream()
    source, sink = consumer.as_file(), producer.as_file()
    pickle.dump({"a": list(range(1000))}, sink)
    assert pickle.load(source) == {"a": list(range(1000))}
    text = io.TextIOWrapper(sink, write_through=True, newline="")
    csv.writer(text).writerows([["a", "b"], [1, 2]])
    text.detach()
    producer.close()
    assert list(csv.reader(io.TextIOWrapper(source, newline=""))) == [["a", "b"], ["1", "2"]]


def test_a_file_that_is_closed_or_dropped_does_not_end_the_stream(stream):
    producer, consumer = stream()
    with producer.as_file() as sink:
        sink.write(b"one")
    with pytest.raises(ValueError, match="closed file"):
        sink.write(b"x")
    with consumer.as_file() as source:
        assert source.read(3) == b"one"
    producer.as_file().write(b"two")
    assert consumer.as_file().read(3) == b"two"
    producer.send(b"three")
    assert consumer.recv() == b"three"


@pytest.mark.parametrize("ending", ["kill", "exception"])
@pytest.mark.parametrize("read", ["read()", "read(8)", "read1(8)"])
def test_a_producer_that_dies_is_no_end_of_the_file(start, consume, ending, read):
    producer = start("producer")
    consumer = consume()
    producer.run("producer.as_file().write(b'half')")
    if ending == "kill":
        producer.kill()
    else:
        producer.run("producer.__exit__(ValueError, ValueError(), None)")
    source = consumer.as_file()
    if read == "read1(8)":
        assert source.read1(8) == b"half"
    with pytest.raises(ringbell.PeerLost):
        eval(f"source.{read}", {"source": source})


def test_a_consumer_that_goes_is_an_error_of_write(start, produce):
    consumer = start("consumer")
    producer = produce(ring_size=SMALL_RING)
    consumer.run("consumer.close()")
    with pytest.raises(ringbell.EndOfStream):
        producer.as_file().write(b"x" * 100_000)
    producer.close()
    with pytest.raises(ringbell.ChannelClosed):
        producer.as_file().write(b"x")


def test_a_large_write_goes_in_pieces_that_both_sides_work_on(stream):
    producer, consumer = stream(ring_size=1 << 20)
    octets = random.Random(3).randbytes(3_000_000)
    thread = threading.Thread(target=lambda: (producer.as_file().write(octets), producer.close()))
    thread.start()
    try:
        assert consumer.as_file().read() == octets
    finally:
        thread.join()
    assert producer.stats().driver.producer.entries >= 3_000_000 // (1 << 18)


def test_what_is_taken_beside_the_file_is_said(stream):
    producer, consumer = stream()
    producer.send_many([b"x" * 100_000, b"y"])
    source = consumer.as_file()
    assert source.read(1) == b"x"
    assert consumer.recv() == b"y"
    with pytest.raises(ValueError, match="released"):
        source.read(100_000)


def test_an_interrupt_between_reads_loses_nothing(stream):
    producer, consumer = stream()
    source = consumer.as_file().raw
    taken, sent, place = b"", b"", 1
    while True:
        message = b"%06d" % place
        producer.send(message)
        sent += message
        with interruption(place) as cut:
            target = bytearray(4)
            taken += bytes(target[: source.readinto(target)])
        while len(taken) < len(sent):
            target = bytearray(4)
            taken += bytes(target[: source.readinto(target)])
        if not cut.happened:
            break
        place += 1
    assert taken == sent
    assert place > 2


# ---- Arrow ----


def table():
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table(
        {
            "time": pyarrow.array(range(50_000), pyarrow.timestamp("ns", tz="UTC")),
            "price": [None if i % 7 == 0 else i / 3 for i in range(50_000)],
            "name": pyarrow.array([f"name {i % 100}" for i in range(50_000)]).dictionary_encode(),
            "some": [list(range(i % 5)) for i in range(50_000)],
        }
    )


def test_a_table_of_arrow_goes_through_batch_by_batch(start, produce):
    sent = table()
    consumer = start("consumer")
    producer = produce(ring_size=1 << 16)
    consumer.begin("""
import hashlib, pyarrow
with pyarrow.ipc.open_stream(consumer.as_file()) as reader:
    got = reader.read_all()
got.validate(full=True)
sink = pyarrow.BufferOutputStream()
with pyarrow.ipc.new_stream(sink, got.schema) as writer:
    writer.write_table(got)
digest = hashlib.sha256(sink.getvalue()).hexdigest()
""")
    import pyarrow

    with pyarrow.ipc.new_stream(producer.as_file(), sent.schema) as writer:
        writer.write_table(sent, max_chunksize=10_000)
    producer.close()
    consumer.reply()
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, sent.schema) as writer:
        writer.write_table(sent, max_chunksize=10_000)
    assert consumer.run("got.num_rows, digest") == str(
        (50_000, hashlib.sha256(sink.getvalue()).hexdigest())
    )


def test_a_batch_of_arrow_arrives_before_the_next_is_written(stream):
    pyarrow = pytest.importorskip("pyarrow")
    producer, consumer = stream()
    batch = pyarrow.record_batch({"a": [1, 2, 3]})
    with pyarrow.RecordBatchStreamWriter(producer.as_file(), batch.schema) as writer:
        writer.write_batch(batch)
        reader = pyarrow.ipc.open_stream(consumer.as_file())
        assert reader.read_next_batch().equals(batch)
        writer.write_batch(batch)
        assert reader.read_next_batch().equals(batch)
    with pytest.raises(StopIteration):
        reader.read_next_batch()


def test_a_table_whose_producer_dies_is_an_error(start, consume):
    pytest.importorskip("pyarrow")
    producer = start("producer")
    consumer = consume()
    producer.run("import pyarrow; batch = pyarrow.record_batch({'a': list(range(1000))})")
    producer.run("writer = pyarrow.ipc.new_stream(producer.as_file(), batch.schema)")
    producer.run("writer.write_batch(batch)")
    producer.kill()
    import pyarrow

    reader = pyarrow.ipc.open_stream(consumer.as_file())
    assert reader.read_next_batch().num_rows == 1000
    with pytest.raises(ringbell.PeerLost):
        reader.read_next_batch()


def test_a_table_goes_to_pandas(stream):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    producer, consumer = stream()
    frame = pandas.DataFrame(
        {"name": ["a", None], "when": pandas.date_range("2026", periods=2, tz="UTC")}
    )
    sent = pyarrow.Table.from_pandas(frame)
    with pyarrow.ipc.new_stream(producer.as_file(), sent.schema) as writer:
        writer.write_table(sent)
    with pyarrow.ipc.open_stream(consumer.as_file()) as reader:
        pandas.testing.assert_frame_equal(reader.read_pandas(), frame)
