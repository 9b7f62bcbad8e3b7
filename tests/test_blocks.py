# SPDX-License-Identifier: MIT
"""Large payloads by reference: taken, held, and written in place."""

import hashlib
import pickle
import random

import numpy as np
import pytest
from by_reference import BLOCKS, LEAST, WAITS, blocks, payload, take_all_blocks

import ringbell

# ---- taking ----


def test_a_large_payload_comes_as_a_view_and_a_small_one_as_bytes(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=BLOCKS)
    producer.send(payload(1))
    producer.send(b"small")
    producer.send(payload(2, LEAST - 8))
    producer.send(payload(3, 3 * LEAST))
    code = "[(type(m).__name__, len(m), bytes(m[:8])) for m in (consumer.hold() for _ in range(4))]"
    assert consumer.run(code) == repr(
        [
            ("memoryview", LEAST, b"00000001"),
            ("bytes", 5, b"small"),
            ("bytes", LEAST - 8, b"00000002"),
            ("memoryview", 3 * LEAST, b"00000003"),
        ]
    )
    counted = blocks(producer)
    assert (counted.sent, counted.copied) == (2, 0)
    stats = producer.stats()
    assert stats.driver.producer.bytes == stats.device.consumer.bytes == 5 * LEAST + 5 - 8


def test_without_the_option_nothing_goes_by_reference(stream):
    producer, consumer = stream(ring_size=8 * LEAST)
    producer.send(payload(1))
    assert isinstance(consumer.hold(), bytes)
    assert blocks(producer) == ringbell.BlockCounters(sent=0, copied=0, lent=0)


@pytest.mark.parametrize("take", ["recv", "recv_many", "borrow", "hold", "iteration"])
def test_every_way_to_take_gives_the_whole_payload_and_the_block_goes_back(stream, take):
    producer, consumer = stream(blocks=WAITS)
    for number in range(20):
        producer.send(payload(number), timeout=10)
        if take == "recv_many":
            (message,) = consumer.recv_many()
        elif take == "iteration":
            message = next(iter(consumer))
        else:
            message = getattr(consumer, take)()
        assert bytes(message) == payload(number)
        del message
    counted = blocks(producer)
    assert (counted.sent, counted.copied) == (20, 0)
    assert counted.lent <= 2  # what borrow lends goes back with the next step


def test_messages_of_all_sizes_arrive_in_order_by_send_many(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=BLOCKS)
    consumer.begin("""
import hashlib, random
digest, chance, held = hashlib.sha256(), random.Random(1), []
for _ in range(1000):
    message = getattr(consumer, chance.choice(("recv", "borrow", "hold")))()
    digest.update(message)
    if chance.random() < 0.2:
        held.append(bytes(message) if consumer is None else consumer)
    del message
""")
    chance = random.Random(2)
    sizes = (0, 1, 500, LEAST - 1, LEAST, LEAST + 1, 3 * LEAST, 17 * LEAST)
    messages = [chance.randbytes(chance.choice(sizes)) for _ in range(1000)]
    assert producer.send_many(messages) == 1000
    consumer.reply()
    digest = hashlib.sha256(b"".join(messages)).hexdigest()
    assert consumer.run("digest.hexdigest()") == repr(digest)
    counted = blocks(producer)
    assert counted.sent + counted.copied == sum(len(message) >= LEAST for message in messages)


def test_a_borrowed_block_is_valid_until_the_next_step(stream):
    producer, consumer = stream(blocks=BLOCKS)
    for number in range(3):
        producer.send(payload(number))
    view = consumer.borrow()
    assert view.readonly
    assert consumer.recv() == payload(1)
    with pytest.raises(ValueError, match="released"):
        bytes(view)
    array = np.frombuffer(consumer.borrow(), "S8")
    with pytest.raises(ringbell.RingEmpty):
        consumer.borrow(timeout=0)
    # As with a message in private memory, what was made from it stays right.
    assert (array == b"00000002").all()


def test_numpy_dlpack_and_pickle_use_a_held_block_in_place(stream):
    producer, consumer = stream(blocks=BLOCKS)
    array = np.arange(LEAST, dtype="u4").reshape(64, -1)
    producer.send(array)
    view = consumer.hold()
    mine = np.frombuffer(view, "u4").reshape(64, -1)
    assert (mine == array).all()
    assert not mine.flags.writeable
    assert np.shares_memory(mine, np.frombuffer(view, "u1"))
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":
        assert np.shares_memory(np.from_dlpack(mine), mine)
    buffers = []
    pickled = pickle.dumps(array, 5, buffer_callback=buffers.append)
    unpickled = pickle.loads(pickled, buffers=[view])
    assert np.shares_memory(unpickled, mine)
    again = pickle.dumps(unpickled, 5)  # in band, by a copy
    del view, mine, unpickled
    producer.send(b"")
    assert (pickle.loads(again) == array).all()


def test_what_the_other_side_holds_keeps_its_content(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=BLOCKS)
    consumer.begin("""
import random
chance, held, wrong = random.Random(3), [], 0
while (message := consumer.hold()) != b"end":
    held.append((message, bytes(message[:8]), bytes(message[-8:])))
    chance.shuffle(held)
    while len(held) > chance.randrange(12):
        message, first, last = held.pop()
        wrong += bytes(message) != first * (len(message) // 8)
    del message
""")
    chance = random.Random(4)
    for number in range(2000):
        producer.send(payload(number, chance.choice((LEAST, 8, 2 * LEAST + 8, 3 * LEAST))))
    producer.send(b"end")
    consumer.reply()
    assert consumer.run("wrong") == "0"
    assert blocks(producer).sent > 500


# ---- in place ----


def test_a_block_is_written_in_place(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=BLOCKS)
    for number in range(50):
        with producer.reserve(8 * LEAST) as frame:
            frame.payload[:8] = b"%08d" % number
            frame.payload[-8:] = b"the last"
            if number % 2:
                frame.length = 8
        whole = 8 if number % 2 else 8 * LEAST
        last = b"%08d" % number if number % 2 else b"the last"
        code = "(lambda m: (len(m), bytes(m[:8]), bytes(m[-8:])))(consumer.hold())"
        assert consumer.run(code) == repr((whole, b"%08d" % number, last))
    assert blocks(producer).sent == 50


def test_a_reserved_block_that_is_given_up_can_be_reserved_again(stream):
    producer, consumer = stream(blocks=WAITS)
    for _ in range(10):
        producer.reserve(3 * LEAST, timeout=0).abandon()
        frame = producer.reserve(3 * LEAST, timeout=0)
        with pytest.raises(RuntimeError, match="reserved room"):
            producer.send(payload(1), timeout=0)
        del frame
        with pytest.raises(ZeroDivisionError), producer.reserve(4 * LEAST, timeout=0):
            raise ZeroDivisionError
    frame = producer.reserve(4 * LEAST, timeout=0)
    part = frame.payload[:8]
    with pytest.raises(BufferError):
        frame.__exit__(None, None, None)
    part.release()
    with producer.reserve(100) as small:
        small.payload[:] = bytes(100)
    producer.send(payload(2, 4 * LEAST), timeout=0)
    assert consumer.recv() == bytes(100)
    assert consumer.recv() == payload(2, 4 * LEAST)


def test_reserve_gives_as_much_as_the_pool_or_the_ring_has(stream):
    producer, consumer = stream(ring_size=4096, blocks=WAITS)
    with pytest.raises(ValueError, match=f"from 0 to {4 * LEAST} bytes, .* larger pool"):
        producer.reserve(4 * LEAST + 1)
    assert producer.max_payload == 4080
    held = take_all_blocks(producer, consumer)
    with pytest.raises(ringbell.RingFull, match="no block was free"):
        producer.reserve(LEAST, timeout=0)
    held.pop()
    with producer.reserve(LEAST, timeout=0) as frame:
        frame.payload[:] = payload(7)
    assert bytes(consumer.hold()) == payload(7)


def test_reserve_of_a_pool_that_copies_takes_the_ring_where_that_has_room(stream):
    producer, consumer = stream(ring_size=4 * LEAST, blocks=ringbell.Blocks(4 * LEAST, LEAST))
    held = take_all_blocks(producer, consumer)
    with producer.reserve(LEAST, timeout=0) as frame:
        frame.payload[:] = payload(7)
    assert consumer.hold() == payload(7)
    with pytest.raises(ringbell.RingFull):
        producer.reserve(4 * LEAST, timeout=0)
    held.clear()
    with producer.reserve(4 * LEAST, timeout=0):
        pass
    assert isinstance(consumer.hold(), memoryview)
