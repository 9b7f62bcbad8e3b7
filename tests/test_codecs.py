# SPDX-License-Identifier: MIT
"""Channels that carry objects: what arrives."""

import copyreg
import itertools
import pickle
import threading

import coded
import numpy as np
import pytest
from coded import OBJECTS, consumer, large
from kinds import SMALL_RING

import ringbell
from ringbell import codecs


@pytest.mark.parametrize("ring_size", [SMALL_RING, 1 << 22], ids=["in pieces", "whole"])
def test_objects_go_to_a_handler_and_come_back(server, ring_size):
    driver = server(ring_size=ring_size)
    for name, value in OBJECTS.items():
        assert coded.same(driver.call(value), value), name
    for value, answer in zip(OBJECTS.values(), driver.map(OBJECTS.values(), depth=5), strict=True):
        assert coded.same(answer, value)


def test_tables_go_to_a_handler_and_come_back(server):
    driver = server()
    columns = {"number": range(50_000), "name": [f"name {i % 100}" for i in range(50_000)]}
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(columns)
    frame["category"] = frame["name"].astype("category")
    frame["time"] = pandas.Timestamp("2026-01-01") + pandas.to_timedelta(frame["number"], "s")
    assert coded.same(driver.call(frame), frame)
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({key: list(values) for key, values in columns.items()})
    assert coded.same(driver.call({"table": table}), {"table": table})
    assert coded.same(driver.call(table.slice(10, 20)), table.slice(10, 20))


def test_frames_of_polars_go_to_a_handler_and_come_back(server):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": range(50_000), "b": [f"{i}" for i in range(50_000)]})
    assert coded.same(server().call(frame), frame)


def test_the_columns_of_a_table_are_held_by_a_frame_of_polars(stream):
    polars, _ = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    frame = polars.DataFrame({"a": range(50_000)})
    producer, consumer = stream(
        codec="pickle", consume={"codec": "pickle"}, blocks=ringbell.Blocks(least=1 << 16)
    )
    producer.send(frame.to_arrow())
    table = consumer.hold()
    held = polars.from_arrow(table)
    assert np.shares_memory(held["a"].to_numpy(), table.column("a").chunk(0).to_numpy())
    assert producer.stats().driver.blocks.sent == 1
    assert held.equals(frame)


def test_tensors_go_to_a_handler_and_come_back(server):
    torch = pytest.importorskip("torch")
    driver = server()
    large = torch.arange(50_000).reshape(100, 500)
    tensors = {
        "large": large,
        "brain": large.to(torch.bfloat16),
        "complex": large.to(torch.complex64),
        "scattered": large.t()[::2],
        "conjugate": large.to(torch.complex64).conj(),
        "no dimension": torch.tensor(5.0),
        "empty": torch.zeros(3, 0),
        "booleans": large > 5,
        "sparse": torch.eye(100).to_sparse(),
        "parameter": torch.nn.Parameter(torch.ones(5000)),
    }
    answer = driver.call(tensors)
    for name, tensor in tensors.items():
        assert (type(answer[name]), answer[name].dtype) == (type(tensor), tensor.dtype)
        assert answer[name].to_dense().equal(tensor.to_dense()), name
    assert answer["parameter"].requires_grad
    answer["large"] += 1
    assert isinstance(codecs.pack(large), ringbell._ends.Parts)


@pytest.mark.parametrize("reducers", [{}, {bytearray: None}], ids=["theirs", "ours"])
def test_what_is_registered_with_copyreg_later_is_pickled_that_way(monkeypatch, reducers):
    class Local:
        pass

    monkeypatch.setattr(codecs.tensors, "reducers", lambda: reducers)
    pickles = codecs.pickles(pickle.Pickler)
    assert pickles.unpack(pickles.pack(1)) == 1
    copyreg.pickle(Local, lambda _: (int, ("7",)))
    try:
        assert pickles.unpack(pickles.pack(Local())) == 7
    finally:
        del copyreg.dispatch_table[Local]


def test_what_arrives_belongs_to_the_one_who_takes_it(server):
    driver = server("plus_one")
    for length in (3, 1000, 1_000_000):
        values = np.arange(float(length))
        answer = driver.call(values)
        answer += 1
        assert (answer == values + 2).all()
    fixed = np.arange(1000.0)
    fixed.flags.writeable = False
    with pytest.raises(ringbell.RequestFailed, match="read-only"):
        driver.call(fixed)


def test_a_handler_may_keep_what_it_gets(server):
    driver = server("keep")
    answers = [driver.call(np.full(1000, i)) for i in range(100)]
    assert answers == [sum(range(i + 1)) * 1000 for i in range(100)]


def test_an_answer_that_waits_for_room_is_what_it_was(server):
    driver = server("count", SMALL_RING)
    for i in range(20):
        driver.submit(i)  # of 8,000 bytes each, so they go in pieces
    answers = [driver.reap() for _ in range(20)]
    assert [set(answer.result().tolist()) for answer in answers] == [{i} for i in range(20)]


def test_requests_are_submitted_reaped_and_completed(start, connect):
    peer = start("device", False, codec="pickle")
    assert peer.reply() == "ready"
    driver = connect(codec="pickle")
    tokens = {driver.submit({"n": i, "x": large}): i for i in range(5)}
    peer.run("requests = [device.take() for _ in range(5)]")
    peer.run("for r in reversed(requests): r.complete([r.payload['n'], r.payload['x'] * 2])")
    for _ in range(5):
        completion = driver.reap()
        number, doubled = completion.result()
        assert number == tokens[completion.token] == completion.payload[0]
        assert (doubled == large * 2).all()
        assert coded.same(pickle.loads(pickle.dumps(completion)).payload, completion.payload)
    driver.submit(1)
    driver.submit(2)
    peer.run("device.take().complete()")
    assert driver.reap().result() == b""
    peer.run("device.take().fail('no é')")
    with pytest.raises(ringbell.RequestFailed, match="no é"):
        driver.reap().result()
    driver.doorbell.send({"no": "answer"})
    assert peer.run("(lambda r: (r.payload, r.complete()))(device.take())[0]") == "{'no': 'answer'}"


def test_a_stream_carries_objects(start, produce):
    peer, producer = consumer(start, produce)
    peer.begin("got = list(consumer)")
    for value in OBJECTS.values():
        producer.send(value)
    assert producer.send_many(OBJECTS.values()) == len(OBJECTS)
    assert producer.send_many([]) == 0
    producer.close()
    peer.reply()
    again = {**OBJECTS, **{f"{name} again": value for name, value in OBJECTS.items()}}
    whole = peer.run("coded.same(got, list(coded.OBJECTS.values()) * 2)")
    assert (len(again), whole) == (2 * len(OBJECTS), "True")


def test_many_objects_are_received_at_once(start, produce):
    peer, producer = consumer(start, produce)
    producer.send_many([{"n": i} for i in range(10)])
    producer.send(large)
    assert peer.run("[o['n'] for o in consumer.recv_many(4)]") == "[0, 1, 2, 3]"
    assert peer.run("[o['n'] for o in consumer.recv_many(6)]") == "[4, 5, 6, 7, 8, 9]"
    assert peer.run("[o.sum() for o in consumer.recv_many()]") == repr([large.sum()])
    with pytest.raises(Exception, match="max is how many"):
        peer.run("consumer.recv_many(0)")
    with pytest.raises(Exception, match="RingEmpty"):
        peer.run("consumer.recv_many(timeout=0)")


def test_borrowed_arrays_are_views_of_the_ring_for_one_step(start, produce):
    peer, producer = consumer(start, produce)
    for i in range(3):
        producer.send({"x": large + i, "n": i})
    peer.run("first = consumer.borrow()")
    assert peer.run("first['x'].flags.writeable, first['x'].ctypes.data % 64") == "(False, 0)"
    assert peer.run("consumer.stats().device.consumer.entries") == "0", "it lies in the ring"
    for call in ("borrow()", "recv()", "recv_many()"):
        with pytest.raises(Exception, match=r"BufferError: .* still in use"):
            peer.run(f"consumer.{call}")
    assert peer.run("first['x'].sum()") == repr(large.sum())
    peer.run("del first")
    assert peer.run("consumer.borrow()['n'], consumer.recv()['n']") == "(1, 2)"


def test_a_borrowed_object_longer_than_half_the_ring_lies_in_memory_of_its_own(stream):
    producer, consumer = stream(
        codec="pickle", consume={"codec": "pickle"}, ring_size=1 << 16, polling="never"
    )
    thread = threading.Thread(target=lambda: producer.send_many([[large]] * 2))
    thread.start()
    kept = [consumer.borrow() for _ in range(2)]
    thread.join()
    assert coded.same(kept, [[large]] * 2)
    assert not kept[0][0].flags.writeable


def test_objects_are_gathered(path, start, names):
    gathered = []
    with ringbell.gather(path, codec="pickle") as gather:
        peers = [start("producer", False, codec="pickle", timeout=60) for _ in range(2)]
        for number, peer in enumerate(peers):
            peer.begin(
                f"producer.send_many([({number}, i, coded.np.full(1000, i)) for i in range(5)])"
            )
        peers[0].begin("producer.close()")
        peers[1].begin("producer.close()")
        for producer, value in itertools.islice(gather, 10):
            gathered.append((producer.pid, *value[:2], value[2].sum()))
        for peer in peers:
            assert [peer.reply() for _ in range(3)] == ["ready", "5", "None"]
    for number, peer in enumerate(peers):
        mine = [one for one in gathered if one[0] == peer.pid]
        assert [one[1:3] for one in mine] == [(number, i) for i in range(5)]
