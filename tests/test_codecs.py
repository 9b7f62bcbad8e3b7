# SPDX-License-Identifier: MIT
"""Channels that carry objects: codecs, and pickles with the buffers of arrays beside them."""

import array
import contextlib
import copyreg
import itertools
import os
import pickle
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import coded
import numpy as np
import pytest

import ringbell
from ringbell import codecs

SMALL_RING = 4096

structured = np.zeros(1000, [("x", "f8"), ("y", "i2", (3,))])
structured["x"] = np.arange(1000)
large = np.arange(20_000.0)

OBJECTS = {
    "none": None,
    "text": "é" * 3,
    "nested": {"a": [1, 2.5, None, {"b": (True, b"c")}]},
    "named tuple": coded.Point(1, 2),
    "long bytes": [b"x" * 300_000, "y" * 300_000, bytearray(b"z" * 300_000)],
    "array": large,
    "arrays": {"a": large, "b": [large + 1, {"c": large[:5] + 2}], "d": large.astype("u1")},
    "the same twice": [large] * 2,
    "fortran": np.asfortranarray(large.reshape(100, 200)),
    "scattered": large.reshape(100, 200)[::2, ::-3],
    "empty": [np.zeros(0), np.zeros((3, 0, 2), "i4"), large],
    "no dimension": np.array(5.0),
    "structured": structured,
    "objects": np.array([1, "two", None, large], dtype=object),
    "strings": np.array(["one", "two"] * 5000),
    "times": np.arange(20_000).astype("M8[ns]"),
    "booleans": large > 5,
    "scalars": [np.float64(1.5), np.int8(3)],
    "many": [large[:600] + i for i in range(50)],
    "array of the standard library": array.array("d", range(20_000)),
}


@pytest.fixture
def server(start, connect):
    """Serve with a handler for objects in another process; give its driver."""

    def serve(handler="back", ring_size=1 << 20, **options):
        start("serve", handler=handler, codec="pickle", **options)
        return connect(codec="pickle", ring_size=ring_size)

    return serve


def consumer(start, produce, codec="pickle", **options):
    peer = start("consumer", codec=codec, **options)
    return peer, produce(codec=coded.CODECS.get(codec, codec))


# ---- what arrives ----


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
    peer.run("import test_codecs")
    whole = peer.run("coded.same(got, list(test_codecs.OBJECTS.values()) * 2)")
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


# ---- codecs of one's own ----


@pytest.mark.parametrize("codec", ["json", "named"])
def test_a_pair_of_functions_is_a_codec(start, connect, codec):
    start("serve", handler="back", codec=codec)
    driver = connect(codec=coded.CODECS[codec])
    value = {"a": [1, None, "x" * 2_000_000]}
    assert driver.call(value) == value
    assert list(driver.map([1, [2], "3"])) == [1, [2], "3"]


def test_msgspec_is_a_codec(path):
    msgpack = pytest.importorskip("msgspec").msgpack
    codec = msgpack.encode, msgpack.Decoder().decode
    with ringbell.launch(coded.back, start_method="fork", codec=codec) as driver:
        assert driver.call({"a": [1, b"two"]}) == {"a": [1, b"two"]}


@pytest.mark.parametrize("mine", ["bytes", "pickle", "json", "named"])
@pytest.mark.parametrize("theirs", ["bytes", "pickle", "json", "named"])
def test_a_driver_with_another_codec_is_refused_and_told_both(start, connect, mine, theirs):
    if mine == theirs:
        return
    named = {"json": "coded.to_json, coded.from_json", "named": "a name"}
    start("serve", handler="back" if theirs != "bytes" else "upper", codec=theirs)
    with pytest.raises(ringbell.LayoutMismatch) as told:
        connect(codec=coded.CODECS.get(mine, mine))
    ours, others = named.get(mine, mine), named.get(theirs, theirs)
    assert f"the driver's codec is '{ours}', and the device's is '{others}'" in str(told.value)


@pytest.mark.parametrize(("mine", "theirs"), [("bytes", "pickle"), ("pickle", "json")])
@pytest.mark.parametrize("role", ["producer", "consumer"])
def test_both_sides_of_a_stream_are_told_of_another_codec(start, path, mine, theirs, role):
    peer = start(role, codec=theirs)
    peer.begin("1")
    open_stream = ringbell.consume if role == "producer" else ringbell.produce
    with pytest.raises(ringbell.LayoutMismatch, match="codec") as told:
        open_stream(path, codec=mine, timeout=60)
    with pytest.raises(Exception, match="Exit: 1"):  # its error is on its stderr
        peer.reply()
    assert f"'{mine}'" in str(told.value)
    assert "give both sides the same codec=" in str(told.value)


def test_a_gather_refuses_a_producer_with_another_codec_and_goes_on(path, start, caplog):
    with ringbell.gather(path, codec="pickle") as gather:
        wrong = start("producer", codec="json")
        while wrong.process.poll() is None:  # it is refused in here
            with contextlib.suppress(ringbell.RingEmpty):
                gather.take(timeout=0.01)
        right = start("producer", codec="pickle", timeout=60)
        right.begin("producer.send('right')")
        assert gather.take()[1] == "right"
    assert "the producer's codec is 'coded.to_json, coded.from_json'" in caplog.text


def test_a_codec_may_use_its_buffer_again(path, start, connect, names):
    codec = coded.CODECS["reused"]
    start("serve", handler="back", codec="reused")
    driver = connect(codec=codec)
    values = [[i] for i in range(300)]
    assert list(driver.map(values)) == [driver.call(value) for value in values] == values
    with ringbell.Pool(coded.back, 1, codec=codec) as pool:
        assert list(pool.map(values)) == values
    driver.doorbell.send_many(values[:3])


# ---- bad codecs ----


@pytest.mark.parametrize(
    ("codec", "error"),
    [
        ("json", ValueError),
        (5, TypeError),
        (len, TypeError),
        ((len,), TypeError),
        ((len, 5), TypeError),
        ([len, len], TypeError),
        ((len, len, 5), TypeError),
        ((len, len, ""), ValueError),
        ((len, len, "pickle"), ValueError),
        ((len, len, "two\nlines"), ValueError),
        ((len, len, "x" * 201), ValueError),
        ((len, len, "x", "y"), TypeError),
    ],
)
def test_what_is_no_codec_is_refused(path, codec, error):
    calls = [
        lambda: ringbell.connect(path, codec=codec),
        lambda: ringbell.listen(path, codec=codec),
        lambda: ringbell.serve(path, coded.back, codec=codec),
        lambda: ringbell.Server(path, coded.back, codec=codec),
        lambda: ringbell.produce(path, codec=codec, timeout=0),
        lambda: ringbell.consume(path, codec=codec, timeout=0),
        lambda: ringbell.gather(path, codec=codec),
        lambda: ringbell.launch(coded.back, codec=codec).__enter__(),
        lambda: ringbell.Pool(coded.back, 1, codec=codec),
        lambda: ringbell.pipeline(coded.sends_some, coded.takes_all, codec=codec),
    ]
    for call in calls:
        with pytest.raises(error, match="codec"):
            call()


def test_records_have_no_codec(path):
    for open_stream in (ringbell.produce, ringbell.consume, ringbell.gather):
        with pytest.raises(ValueError, match="records of a dtype, or objects of the codec"):
            open_stream(path, "f8", codec="pickle")
    with pytest.raises(ValueError, match="records of a dtype, or objects of the codec"):
        ringbell.pipeline(coded.sends_some, coded.takes_all, "f8", codec="pickle")


def test_a_stream_of_objects_is_no_file(stream):
    for end in stream(codec="pickle", consume={"codec": "pickle"}):
        with pytest.raises(TypeError, match="objects of the codec 'pickle'"):
            end.as_file()


def test_what_cannot_be_pickled_is_not_sent(server):
    driver = server()
    calls = [
        lambda: driver.call(coded.Unpicklable()),
        lambda: driver.submit([large, coded.Unpicklable()]),
        lambda: next(driver.map([coded.Unpicklable()])),
        lambda: driver.doorbell.send(coded.Unpicklable()),
        lambda: driver.doorbell.send_many([1, coded.Unpicklable()]),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="not this one"):
            call()
    assert driver.stats().driver.producer.entries == 0
    with pytest.raises(pickle.PicklingError, match="non-contiguous"):
        driver.call(pickle.PickleBuffer(large[::2]))
    assert driver.call(1) == 1
    assert driver.stats().driver.producer.entries == 1


def test_an_encoder_that_returns_no_buffer_is_an_error_of_the_call(start, connect):
    peer = start("serve", handler="back", codec="no buffer")
    driver = connect(codec=(coded.returns_text, coded.from_json, "no buffer"))
    for call in (driver.call, driver.submit, driver.doorbell.send):
        with pytest.raises(TypeError, match="encode function returned str; it has to return"):
            call(1)
    with pytest.raises(ringbell.LayoutMismatch):
        connect()
    driver.close()
    encoded = connect(codec=(coded.to_json, coded.from_json, "no buffer"))
    with pytest.raises(ringbell.RequestFailed, match="encode function returned str"):
        encoded.call(1)
    peer.end()


def test_what_a_handler_cannot_answer_fails_the_request(server):
    driver = server("odd")
    with pytest.raises(ringbell.RequestFailed, match="TypeError: not this one"):
        driver.call("unpicklable")
    with pytest.raises(ringbell.RequestFailed, match="ArithmeticError: boom"):
        driver.call(coded.Explosive())
    with pytest.raises(ArithmeticError, match="boom"):
        driver.call("explosive")
    answers = driver.map([1, "explosive", 3])
    assert next(answers) == 1
    with pytest.raises(ArithmeticError, match="boom"):
        next(answers)
    assert list(answers) == []
    driver.submit("explosive")
    completion = driver.reap()
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="boom"):
            completion.result()
    assert driver.call(1) == 1


def test_a_request_that_cannot_be_decoded_can_be_failed(pair):
    driver, device = pair(listen={"codec": "pickle"}, codec="pickle")
    driver.submit(coded.Explosive())
    request = device.take()
    for _ in range(2):
        with pytest.raises(ArithmeticError, match="boom"):
            request.payload  # noqa: B018
    request.fail("it explodes")
    with pytest.raises(ringbell.RequestFailed, match="it explodes"):
        driver.reap().result()


def test_a_message_that_cannot_be_decoded_is_taken_and_the_next_one_is_there(stream):
    producer, consumer = stream(codec="pickle", consume={"codec": "pickle"})
    for take in (consumer.recv, consumer.borrow, lambda: next(iter(consumer))):
        producer.send(coded.Explosive())
        producer.send([large])
        with pytest.raises(ArithmeticError, match="boom"):
            take()
        (got,) = take()
        assert (got == large).all()
        del got
    producer.send_many([1, 2, coded.Explosive(), 3, coded.Explosive()])
    assert consumer.recv_many() == [1, 2]
    with pytest.raises(ArithmeticError, match="boom"):
        consumer.recv_many()
    assert consumer.recv_many(1) == [3]
    with pytest.raises(ArithmeticError, match="boom"):
        consumer.recv()
    producer.send(4)
    assert consumer.recv_many() == [4]
    producer.send(coded.Stopping())
    with pytest.raises(RuntimeError, match=r"decode function raised StopIteration"):
        next(iter(consumer))


def test_a_message_whose_decoding_is_interrupted_is_taken_again(stream, monkeypatch):
    producer, consumer = stream(codec="pickle", consume={"codec": "pickle"})
    for take in (consumer.recv, consumer.borrow, lambda: consumer.recv_many()[0]):
        monkeypatch.setattr(coded, "interrupts", 0)
        producer.send_many([coded.Interrupting(), "next"])
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                take()
            assert ringbell.wait([consumer], timeout=0) == [consumer]
        assert take() == "whole"
        if take in (consumer.recv, consumer.borrow):
            assert take() == "next"
    monkeypatch.setattr(coded, "interrupts", 0)
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0)
    assert ringbell.wait([consumer], timeout=0) == []
    producer.send_many([0, coded.Interrupting(), 2])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            consumer.recv_many()
    assert consumer.recv_many(2) == [0, "whole"]
    assert consumer.recv_many() == [2]
    monkeypatch.setattr(coded, "interrupts", 0)
    producer.send(coded.Interrupting())
    with pytest.raises(KeyboardInterrupt):
        consumer.recv()
    consumer.close()
    for take in (consumer.recv, consumer.borrow, consumer.recv_many):
        with pytest.raises(ringbell.ChannelClosed):
            take()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"nonsense",
        codecs.MAGIC,
        codecs.MAGIC + struct.pack("<Q", 2**60),
        codecs.MAGIC + struct.pack("<2Q", 0, 2**60),
        codecs.MAGIC + struct.pack("<3Q", 1, 2, 2**63),
        codecs.MAGIC + struct.pack("<4Q", 2, 2, 1, 1) + b"N.",
        codecs.MAGIC + struct.pack("<2Q", 0, 1) + b"NN",
        pickle.dumps(large)[:-1],
    ],
)
def test_a_message_that_is_no_pickle_is_an_error(stream, octets):
    producer, consumer = stream(codec="pickle", consume={"codec": "pickle"}, ring_size=1 << 20)
    for take in (consumer.recv, consumer.borrow):
        with producer.reserve(len(octets)) as frame:
            frame.payload[:] = octets
        with pytest.raises((pickle.UnpicklingError, EOFError)):
            take()
    producer.send("good")
    assert consumer.recv() == "good"


def test_objects_too_long_are_refused_as_other_messages_are(start, connect):
    start("serve", handler="back", codec="pickle", max_message=10_000)
    driver = connect(codec="pickle")
    with pytest.raises(ringbell.RequestFailed, match="too long"):
        driver.call(large)
    assert driver.call(1) == 1


@pytest.mark.variant
def test_an_object_of_3_gib_arrives_and_the_next_one_behind_it(start, produce):
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 6 << 30:
        pytest.skip("it takes more memory than there is")
    peer, producer = consumer(start, produce)
    huge = np.zeros(3 << 30, "u1")
    huge[-1] = 7
    peer.begin(
        "[(len(got), int(got[-1])) for got in [consumer.recv()['huge']]] + [consumer.recv()]"
    )
    producer.send({"huge": huge})
    producer.send("next")
    assert peer.reply() == f"[({3 << 30}, 7), 'next']"


# ---- launched processes ----


@pytest.mark.parametrize("codec", ["pickle", (coded.to_json, coded.from_json)])
def test_a_launched_device_and_a_pool_have_the_codec(names, method, codec):
    with ringbell.launch(coded.back, start_method=method, codec=codec) as driver:
        assert driver.call({"a": [1]}) == {"a": [1]}
    with ringbell.Pool(coded.back, 2, start_method=method, codec=codec) as pool:
        values = [{"n": i} for i in range(300)]
        assert list(pool.map(values)) == values
        assert pool.submit([5]).result() == [5]


@pytest.mark.parametrize("codec", ["pickle", (coded.to_json, coded.from_json)])
def test_a_pipeline_has_the_codec(names, method, codec):
    taken = ringbell.pipeline(coded.sends_some, coded.takes_all, start_method=method, codec=codec)
    assert taken == [{"n": i} for i in range(300)]


def test_the_consumer_of_a_pipeline_holds_arrays_by_reference(names):
    blocks = ringbell.Blocks(pool=1 << 20, least=1 << 16)
    held = ringbell.pipeline(coded.sends_arrays, coded.holds_arrays, codec="pickle", blocks=blocks)
    assert held == (False, [0, 1, 2, 3, 4])


def test_a_pool_gives_objects_and_errors_at_their_places(names):
    with ringbell.Pool(coded.odd, 1, codec="pickle") as pool:
        given = [large, coded.Unpicklable(), coded.Explosive(), "unpicklable", "explosive", "last"]
        answers = pool.map(given)
        assert (next(answers) == large).all()
        for error, text in [
            (TypeError, "not this one"),
            (ringbell.RequestFailed, "boom"),
            (ringbell.RequestFailed, "not this one"),
            (ArithmeticError, "boom"),
        ]:
            with pytest.raises(error, match=text):
                next(answers)
        assert list(answers) == ["last"]
        with pytest.raises(TypeError, match="not this one"):
            pool.submit(coded.Unpicklable())
        assert isinstance(pool.submit("explosive").exception(), ArithmeticError)
        assert pool.submit(1).result() == 1


def test_a_codec_that_cannot_be_sent_to_a_new_process_is_refused(names):
    codec = (lambda value: value, lambda octets: octets, "local")
    for launch in (ringbell.launch(coded.back, codec=codec).__enter__, None):
        with pytest.raises(TypeError, match="the codec cannot be sent to a new process"):
            launch() if launch else ringbell.Pool(coded.back, 1, codec=codec)
    with pytest.raises(TypeError, match="the codec cannot be sent to a new process"):
        ringbell.pipeline(coded.sends_some, coded.takes_all, codec=codec)
    with ringbell.launch(coded.back, start_method="fork", codec=codec) as driver:
        assert driver.call(b"x") == b"x"


# ---- packing ----


@pytest.mark.parametrize("pickler", [pickle.Pickler, ForkingPickler])
def test_packed_objects_are_unpacked(stream, pickler):
    producer, consumer = stream(ring_size=1 << 23)
    pickles = codecs.pickles(pickler)
    for name, value in OBJECTS.items():
        producer.send(pickles.pack(value))
        octets = consumer.recv()
        assert coded.same(pickles.unpack(memoryview(octets)), value), name
        assert coded.same(pickles.unpack(octets), value), name


def test_packing_copies_no_array():
    packed = codecs.pack({"x": large, "y": [large]})
    assert len(packed) > large.nbytes
    assert isinstance(codecs.pack(large[:100]), bytes)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(packed)
    growing = bytearray(10_000)
    packed = codecs.pack(pickle.PickleBuffer(growing))
    with pytest.raises(BufferError):
        growing.append(1)
    del packed
    growing.append(1)


def test_packing_inside_of_packing_makes_two_pickles():
    inner = []

    class Nested:
        def __reduce__(self):
            inner.append(codecs.pack([1, 2]))
            return list, ()

    assert codecs.unpack(codecs.pack([Nested(), 3])) == [[], 3]
    assert codecs.unpack(inner[0]) == [1, 2]


def test_threads_pack_at_once():
    met = threading.Barrier(2)

    class Meeting:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            met.wait(timeout=20)
            return list, ([self.value, large],)

    with ThreadPoolExecutor(2) as pool:
        for packed, value in zip(pool.map(codecs.pack, map(Meeting, (1, 2))), (1, 2), strict=True):
            number, array = codecs.unpack(ringbell._ends.octets_of(packed))
            assert (number, array.tolist()) == (value, large.tolist())
    assert codecs.unpack(codecs.pack("next")) == "next"


def test_after_an_object_that_cannot_be_pickled_the_next_one_is_whole():
    with pytest.raises((AttributeError, pickle.PicklingError)):
        codecs.pack([1, bytes(100_000), large, lambda: None])
    assert codecs.unpack(codecs.pack("next")) == "next"
    assert codecs.unpack(codecs.pack([1])) == [1]


# ---- by reference ----


def test_what_is_held_by_reference_is_not_copied(stream):
    blocks = ringbell.Blocks(pool=1 << 20, least=1 << 16)
    producer, consumer = stream(consume={"codec": "pickle"}, codec="pickle", blocks=blocks)
    with producer, consumer:
        for number in range(3):
            producer.send({"number": number, "one": np.full(1 << 14, number), "two": np.arange(9)})
        held = [consumer.hold() for _ in range(3)]
        assert producer.stats().driver.blocks.sent == 3
        assert not any(one["one"].flags.writeable for one in held)
        producer.send("small")
        assert consumer.hold() == "small"
    assert [int(one["one"].sum()) for one in held] == [0, 1 << 14, 2 << 14]
    assert held[1]["two"].tolist() == list(range(9))


def test_a_block_of_an_object_goes_back_with_its_last_array(stream):
    blocks = ringbell.Blocks(pool=1 << 19, least=1 << 16, when_lent="wait")
    producer, consumer = stream(consume={"codec": "pickle"}, codec="pickle", blocks=blocks)
    with producer, consumer:
        for number in range(100):
            producer.send([np.full(1 << 14, number), np.full(1 << 13, number)], timeout=10)
            _, kept = consumer.hold()
            assert (kept == number).all()
        assert producer.stats().driver.blocks.sent == 100
        del kept
        producer.send(np.zeros(1 << 14), timeout=10)
        assert not consumer.recv().any()


def test_what_cannot_be_unpickled_by_reference_is_consumed(stream):
    blocks = ringbell.Blocks(pool=1 << 17, least=1 << 16, when_lent="wait")
    decoding = (bytes, lambda view: 1 // bytes(view)[0], "odd")
    producer, consumer = stream(consume={"codec": decoding}, codec=decoding, blocks=blocks)
    with producer, consumer:
        for _ in range(5):
            producer.send(bytes(1 << 16), timeout=10)
            with pytest.raises(ZeroDivisionError):
                consumer.hold()
        producer.send(b"\1" * (1 << 16), timeout=10)
        assert consumer.hold() == 1
