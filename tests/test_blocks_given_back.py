# SPDX-License-Identifier: MIT
"""Blocks go back: in any order, from any thread, and whatever ends."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from by_reference import LEAST, POOL, WAITS, blocks, payload, pools, take_all_blocks

import ringbell

PAGE = os.sysconf("SC_PAGESIZE")


def test_blocks_come_back_in_any_order(stream):
    producer, consumer = stream(blocks=WAITS)
    held = take_all_blocks(producer, consumer)
    for number in (2, 0, 3, 1, 1, 2):
        held[number] = None
        producer.send(payload(10 + number), timeout=10)
        held[number] = consumer.hold()
        assert bytes(held[number]) == payload(10 + number)
    assert [bytes(view[:8]) for view in held] == [
        b"00000010",
        b"00000011",
        b"00000012",
        b"00000013",
    ]
    assert blocks(producer).copied == 0


def test_a_part_of_a_view_keeps_the_block_and_a_release_gives_it_back_once(stream):
    producer, consumer = stream(blocks=WAITS)
    held = take_all_blocks(producer, consumer)
    view = held.pop()
    part, array = view[8:16], np.frombuffer(view, "u1")
    view.release()
    del array
    view.release()
    with pytest.raises(ringbell.RingFull):
        producer.send(payload(5), timeout=0)
    assert bytes(part) == b"00000003"
    part.release()
    part.release()
    producer.send(payload(5), timeout=0)
    with consumer.hold() as view:
        assert bytes(view[:8]) == b"00000005"
    producer.send(payload(6), timeout=0)
    with pytest.raises(ringbell.RingFull):
        producer.send(payload(7), timeout=0)


def test_another_thread_may_give_a_block_back(stream):
    producer, consumer = stream(blocks=WAITS)
    held = take_all_blocks(producer, consumer)
    thread = threading.Timer(0.01, held.clear)
    thread.start()
    producer.send(payload(9))
    thread.join()
    assert bytes(consumer.hold()) == payload(9)


def test_a_block_is_readable_after_either_side_has_closed(path):
    consumers = []
    thread = threading.Thread(target=lambda: consumers.append(ringbell.consume(path)))
    thread.start()
    producer = ringbell.produce(path, blocks=WAITS)
    thread.join()
    consumer = consumers.pop()
    held = take_all_blocks(producer, consumer)
    producer.close()
    with pytest.raises(ringbell.EndOfStream):
        consumer.hold()
    assert bytes(held[3]) == payload(3)
    consumer.close()
    held.pop(1)
    del producer, consumer
    gc.collect()
    assert [bytes(view) for view in held] == [payload(0), payload(2), payload(3)]
    array = np.frombuffer(held.pop(), "S8")
    held.clear()
    assert (array == b"00000003").all()
    assert pools(WAITS.pool) == 1
    del array
    assert pools(WAITS.pool) == 0


def test_a_block_is_readable_after_its_sender_was_killed(start, consume):
    producer = start("producer", blocks=POOL)
    consumer = consume()
    producer.run("[producer.send(b'%08d' % i * 8192) for i in range(3)]")
    held = [consumer.hold(), consumer.hold()]
    producer.kill()
    assert bytes(held[1]) == payload(1)
    assert bytes(consumer.hold()) == payload(2)
    with pytest.raises(ringbell.PeerLost):
        consumer.hold()
    del held[0]
    assert bytes(held[0]) == payload(1)


def test_a_forked_child_that_drops_a_view_gives_nothing_back(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=WAITS)
    producer.send(payload(1, 4 * LEAST))
    consumer.run("""
import os
held = consumer.hold()
child = os.fork()
if not child:
    right = bytes(held[:8]) == b"00000001"
    del held
    os._exit(not right)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
""")
    assert consumer.run("status") == "0"
    with pytest.raises(ringbell.RingFull):
        producer.send(payload(2), timeout=0)
    consumer.run("held.release(); del held")
    producer.send(payload(2), timeout=0)


def test_a_hundred_thousand_blocks_leave_memory_and_descriptors_where_they_were(start, produce):
    consumer = start("consumer")
    producer = produce(blocks=ringbell.Blocks(64 * PAGE, PAGE, "wait"))
    consumer.run("import collections; held = collections.deque(maxlen=20)")
    message = bytes(PAGE)

    def round_trip(count):
        consumer.begin(f"for _ in range({count}): held.append(consumer.hold())")
        for _ in range(count):
            producer.send(message)
        consumer.reply()

    def used():
        pids = ("self", consumer.pid)
        return (
            [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids],
            [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids],
        )

    round_trip(2_000)
    resident, descriptors = used()
    round_trip(100_000)
    now, descriptors_now = used()
    assert descriptors_now == descriptors
    assert all(b - a < 1024 for a, b in zip(resident, now, strict=True)), (resident, now)
    assert (blocks(producer).sent, blocks(producer).copied) == (102_000, 0)
