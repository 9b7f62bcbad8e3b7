# SPDX-License-Identifier: MIT
"""Blocks that are not there: descriptors or memory are missing, options are refused."""

import os
import resource

import pytest
from by_reference import BLOCKS, LEAST, POOL, WAITS, blocks, payload

import ringbell


@pytest.fixture
def no_descriptors():
    """Leave no descriptor to this process while `lack` says so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def lack(lacking):
        limit = soft
        if lacking:
            limit = os.open("/dev/null", os.O_RDONLY)  # the lowest number that is free
            os.close(limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))

    yield lack
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_sender_without_a_descriptor_copies(start, produce, no_descriptors):
    consumer = start("consumer")
    producer = produce(blocks=WAITS)
    no_descriptors(True)
    producer.send(payload(1))
    no_descriptors(False)
    producer.send(payload(2))
    assert consumer.run("type(consumer.hold()), type(consumer.hold())") == repr((bytes, memoryview))
    assert blocks(producer) == ringbell.BlockCounters(sent=1, copied=1, lent=1)


@pytest.mark.parametrize("take", ["recv", "hold", "borrow", "recv_many"])
def test_a_receiver_without_a_descriptor_says_so_and_loses_nothing(
    start, consume, no_descriptors, take
):
    producer = start("producer", blocks=POOL)
    consumer = consume()
    producer.run("producer.send(b'before'); producer.send(b'%08d' % 1 * 8192)")
    assert consumer.recv() == b"before"
    no_descriptors(True)
    for _ in range(3):
        with pytest.raises(OSError, match="no file descriptor left"):
            getattr(consumer, take)()
    no_descriptors(False)
    message = getattr(consumer, take)()
    assert b"".join(message) if take == "recv_many" else bytes(message) == payload(1)


def test_a_receiver_that_sleeps_without_a_descriptor_says_so_and_loses_nothing(
    start, consume, no_descriptors
):
    producer = start("producer", blocks=POOL)
    consumer = consume(polling="never")
    with pytest.raises(ringbell.RingEmpty):
        consumer.recv(timeout=0.01)  # whose sleep takes descriptors of its own
    no_descriptors(True)
    producer.begin("time.sleep(0.05); producer.send(b'%08d' % 1 * 8192)")
    with pytest.raises(OSError, match="no file descriptor left"):
        consumer.hold()
    producer.reply()
    no_descriptors(False)
    assert bytes(consumer.hold()) == payload(1)


def test_a_message_in_a_block_may_be_too_long(stream):
    producer, consumer = stream(blocks=WAITS, consume={"max_message": 2 * LEAST})
    for _ in range(3):
        producer.send(payload(1, 4 * LEAST), timeout=0)
        producer.send(payload(2, 100))
        for take in (consumer.hold, consumer.recv):
            with pytest.raises(ringbell.MessageTooLong, match=f"at most {2 * LEAST}"):
                take()
            assert take() == payload(2, 100)
            if take == consumer.hold:
                producer.send(payload(1, 4 * LEAST), timeout=0)  # the block came back
                producer.send(payload(2, 100))


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"pool": 100}, ValueError, "pool is how many bytes"),
        ({"pool": 2**50}, ValueError, "pool is how many bytes"),
        ({"pool": "1"}, TypeError, "pool is how many bytes"),
        ({"least": 0}, ValueError, "least is the size"),
        ({"pool": 4096, "least": 4097}, ValueError, "least is the size"),
        ({"when_lent": "drop"}, ValueError, "when_lent is 'copy' or 'wait', not 'drop'"),
        ({"when_lent": None}, TypeError, "when_lent is"),
    ],
)
def test_bad_options_are_refused(wrong, error, says):
    with pytest.raises(error, match=says):
        ringbell.Blocks(**wrong)


def test_a_pool_that_the_machine_has_no_memory_for_is_an_os_error(path):
    with pytest.raises(OSError, match="no memory for a pool of 70368744177664 bytes"):
        ringbell.listen(path, blocks=ringbell.Blocks(pool=2**46))


def test_blocks_are_a_blocks_and_not_for_records(path):
    with pytest.raises(TypeError, match=r"blocks is a ringbell.Blocks or None, not True"):
        ringbell.produce(path, blocks=True)
    with pytest.raises(ValueError, match="records are written into the ring in place"):
        ringbell.produce(path, "u4", blocks=BLOCKS)
