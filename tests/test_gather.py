# SPDX-License-Identifier: MIT
"""One consumer for many producers: `gather`."""

import copy
import errno
import gc
import os
import resource
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from itertools import groupby

import numpy as np
import pytest
from kinds import KINDS, SMALL_RING
from processes import RAISES_INSIDE_RINGBELL, PeerError, Storm, wait_until, wait_until_listening

import ringbell
from ringbell.meeting import reception

SEND = {"messages": "producer.send(b'%d')", "records": "producer.write([%d])"}


@pytest.fixture
def gather(path):
    """Gather in this process."""
    with ExitStack() as guard:
        yield lambda *args, **options: guard.enter_context(ringbell.gather(path, *args, **options))


@pytest.fixture
def producers(start):
    """Start producers; each has met the gather once `meet` has let it in."""

    def begin(count, **options):
        return [start("producer", **options) for _ in range(count)]

    return begin


def meet(logs, count):
    """Let producers in until so many are connected; they have sent nothing yet."""
    while len(logs.producers) < count:
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.01)


def take_some(logs, count):
    """Take so many entries; give pairs of the sender and the number that it sent."""
    taken = []
    while len(taken) < count:
        producer, entries = logs.take()
        numbers = [int(bytes(entries))] if isinstance(entries, memoryview) else entries.tolist()
        taken += [(producer.pid, number) for number in numbers]
    return taken


def take_nothing(logs):
    with pytest.raises(ringbell.RingEmpty):
        logs.take(timeout=0)


def part(logs, count):
    """Go on until only so many producers are connected."""
    while len(logs.producers) > count:
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.01)


def numbers_of(taken, pid):
    return [number for sender, number in taken if sender == pid]


# ---- who comes, and in what order ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["loop", "take"])
def test_each_producer_arrives_in_order(gather, start, path, kind, how):
    logs = gather()
    peers = [start("nothing") for _ in range(4)]
    for peer in peers:
        peer.begin(
            f"""
with ringbell.produce(path, ring_size=4096, **{KINDS[kind]!r}) as producer:
    for i in range(3000):
        {SEND[kind].replace("%d", "%d" if kind == "messages" else "i")}{" % i" * 0}
""".replace("b'%d'", "b'%d' % i")
        )
    taken = []
    if how == "take":
        taken = take_some(logs, 12000)
    else:
        for producer, entries in logs:
            numbers = [int(bytes(entries))] if kind == "messages" else entries.tolist()
            taken += [(producer.pid, number) for number in numbers]
            if len(taken) == 12000:
                break
    for peer in peers:
        peer.reply()
        assert numbers_of(taken, peer.pid) == list(range(3000))
    part(logs, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
def test_six_producers_that_start_at_once_are_all_taken(gather, start, path, kind, when):
    peers = [start("nothing") for _ in range(6)]

    def begin():
        for peer in peers:
            peer.begin(f"producer = ringbell.produce(path, **{KINDS[kind]!r})")

    if when == "before":
        begin()
        wait_until_listening(path)
    logs = gather()
    if when == "after":
        begin()
    meet(logs, 6)
    for number, peer in enumerate(peers):
        peer.reply()
        peer.run(SEND[kind] % number)
    expected = [(peer.pid, number) for number, peer in enumerate(peers)]
    assert sorted(take_some(logs, 6)) == sorted(expected)
    assert sorted(producer.pid for producer in logs.producers) == sorted(p.pid for p in peers)


def test_producers_that_come_while_the_name_is_taken_over_are_all_taken(start, path):
    peers = [start("nothing") for _ in range(6)]
    for peer in peers:
        peer.begin("""
for i in range(20):
    with ringbell.produce(path) as producer:
        producer.send(b"%d" % i)
""")
    wait_until_listening(path)
    with ringbell.gather(path) as logs:
        taken = take_some(logs, 120)
    for peer in peers:
        peer.reply()
        assert sorted(numbers_of(taken, peer.pid)) == list(range(20)), (
            "each was a stream of its own"
        )


def test_a_producer_behind_one_that_is_killed_goes_on(start, gather, path):
    first = start("producer")
    wait_until_listening(path)
    second = start("producer")
    first.stop()
    first.kill()
    logs = gather()
    second.run("producer.send(b'1')") if logs.producers else meet(logs, 1)
    if not second.process.stdout.closed and logs.producers[0].entries == 0:
        second.run("producer.send(b'2')")
    assert logs.take()[0].pid == second.pid


def test_a_producer_that_waits_behind_another_is_taken_by_the_next_consumer(start, path):
    peers = [start("producer") for _ in range(3)]
    met = []
    for _ in peers:
        with ringbell.consume(path) as consumer:
            met.append(consumer.peer_pid)
    assert sorted(met) == sorted(peer.pid for peer in peers)


def test_producers_have_turns_of_a_bounded_length(gather, producers):
    logs = gather()
    peers = producers(3)
    meet(logs, 3)
    for peer in peers:
        peer.run("producer.send_many([b'%d' % i for i in range(400)])")
    taken = take_some(logs, 1200)
    turns = [(pid, len(list(turn))) for pid, turn in groupby(pid for pid, _ in taken)]
    assert max(length for _, length in turns) <= 64
    for start in range(0, len(turns) - 3, 3):
        assert len({pid for pid, _ in turns[start : start + 3]}) == 3


def test_one_who_floods_does_not_keep_another_one_waiting(gather, start, producers):
    logs = gather()
    (quiet,) = producers(1)
    meet(logs, 1)
    flood = start("producer", ring_size=1 << 16)
    meet(logs, 2)
    flood.begin("while True: producer.send_many([b'0'] * 500)")
    take_some(logs, 1000)
    for number in range(20):
        quiet.run(f"producer.send(b'{number}')")
        others = 0
        while logs.take()[0].pid != quiet.pid:
            others += 1
        assert others <= 128


def test_records_come_as_arrays_of_at_most_a_mebibyte(gather, producers):
    logs = gather()
    (peer,) = producers(1, dtype="'V64'", ring_size=4 << 20)
    meet(logs, 1)
    peer.run("import numpy as np")
    peer.run("producer.write(np.zeros(60000, 'V64'))")
    lengths = []
    while sum(lengths) < 60000:
        lengths.append(len(logs.take()[1]))
    assert max(lengths) == (1 << 20) // 64


def test_a_producer_says_who_it_is_and_how_much_came_from_it(gather, producers):
    came, gone = [], []
    logs = gather(arrived=came.append, left=gone.append)
    before = time.time()
    (peer,) = producers(1)
    meet(logs, 1)
    peer.run("producer.send_many([b'12', b'345'])")
    producer, payload = logs.take()
    assert bytes(payload) == b"12"
    assert logs.take()[0] is producer
    take_nothing(logs)
    assert (producer.pid, producer.entries, producer.bytes) == (peer.pid, 2, 5)
    assert before <= producer.since <= time.time()
    assert str(peer.pid) in repr(producer)
    assert repr(logs).endswith(", 1 producers>")
    assert came == [producer] == logs.producers
    peer.run("producer.close()")
    part(logs, 0)
    assert gone == [producer]
    assert not producer.lost
    assert (producer.entries, producer.bytes) == (2, 5), "also when it has gone"


# ---- what is carried ----


def test_a_producer_of_other_records_is_told_and_the_gather_goes_on(gather, start, path, caplog):
    logs = gather()
    first = start("producer", dtype="'i4'")
    meet(logs, 1)
    assert logs.dtype == "i4"
    for other in ({"dtype": "'i8'"}, {}):
        peer = start("producer", **other)
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.2)
        while "refused" not in caplog.text:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.01)
        assert peer.process.wait() == 1  # by LayoutMismatch
        caplog.clear()
    assert len(logs.producers) == 1
    first.run("producer.write([5])")
    assert take_some(logs, 1) == [(first.pid, 5)]


@pytest.mark.parametrize(
    ("first", "other", "why"),
    [
        ({}, {"dtype": "f8"}, "carries records of float64, and those before it messages"),
        ({"dtype": "f8"}, {}, "carries messages, not records of float64"),
        ({"dtype": "f8"}, {"dtype": "f4"}, "carries records of float32, not records of float64"),
    ],
)
def test_the_first_producer_decides_what_is_carried(gather, start, path, first, other, why):
    peers = start("nothing"), start("nothing")
    logs = gather()
    assert logs.dtype is None
    peers[0].begin(f"producer = ringbell.produce(path, **{first!r})")
    meet(logs, 1)
    peers[1].begin(f"producer = ringbell.produce(path, **{other!r})")
    with pytest.raises(ringbell.RingEmpty):
        logs.take(timeout=1)
    with pytest.raises(PeerError, match=f"LayoutMismatch: .*{why}"):
        peers[1].reply()
    peers[0].reply()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_dtype_that_is_wanted_decides(start, path, when, caplog):
    bad, good = start("nothing"), start("nothing")
    if when == "before":
        bad.begin("ringbell.produce(path, 'f8')")
        wait_until_listening(path)
        good.begin("producer = ringbell.produce(path, 'i4')")
    with ringbell.gather(path, "i4") as logs:
        if when == "after":
            bad.begin("ringbell.produce(path, 'f8')")
            good.begin("producer = ringbell.produce(path, 'i4')")
        meet(logs, 1)
        while "refused" not in caplog.text:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.01)
        with pytest.raises(PeerError, match="LayoutMismatch: .*float64, not records of int32"):
            bad.reply()
        good.reply()
        good.run("producer.write([3])")
        assert take_some(logs, 1) == [(good.pid, 3)]


def test_whoever_renames_the_fields_of_a_dtype_does_not_refuse_the_next_producer(gather, start):
    wanted = np.dtype([("a", "i4")])
    logs = gather(wanted)
    wanted.names = ("b",)
    start("producer", dtype="[('a', 'i4')]")
    meet(logs, 1)
    logs.dtype.names = ("c",)
    start("producer", dtype="[('a', 'i4')]")
    meet(logs, 2)


def test_messages_longer_than_the_ring_arrive(gather, producers):
    logs = gather()
    peers = producers(2, ring_size=4096)
    meet(logs, 2)
    for number, peer in enumerate(peers):
        peer.begin(f"[producer.send(b'{number}' * 20000) for _ in range(5)]")
    got = [bytes(payload) for _, payload in (logs.take() for _ in range(10))]
    assert sorted(got) == [b"0" * 20000] * 5 + [b"1" * 20000] * 5
    for peer in peers:
        peer.reply()


def test_a_message_that_is_too_long_is_told_and_the_next_one_comes(gather, producers):
    logs = gather(max_message=100)
    (peer,) = producers(1)
    meet(logs, 1)
    peer.run("producer.send_many([b'1' * 101, b'2'])")
    for step in (logs.take, lambda: next(iter(logs))):
        with pytest.raises(ringbell.MessageTooLong):
            step()
        assert bytes(logs.take()[1]) == b"2"
        peer.run("producer.send_many([b'1' * 101, b'2'])")


# ---- what is lent ----


def test_a_payload_is_valid_for_one_step(gather, producers):
    logs = gather()
    peers = producers(2)
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.send_many([b'1'] * 40)")
    before = None
    for count, (_, payload) in enumerate(logs, 1):
        if before is not None:
            with pytest.raises(ValueError, match="released"):
                bytes(before)
        assert bytes(payload) == b"1"
        before = payload
        if count == 80:
            break


def test_a_take_within_the_loop_ends_the_step_of_the_loop(gather, producers):
    logs = gather()
    peers = producers(2)
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.send_many([b'%d' % i for i in range(40)])")
    taken = []
    for producer, payload in logs:
        taken.append((producer.pid, int(bytes(payload))))
        other, another = logs.take()
        taken.append((other.pid, int(bytes(another))))
        with pytest.raises(ValueError, match="released"):
            bytes(payload)
        if len(taken) == 80:
            break
    for peer in peers:
        assert numbers_of(taken, peer.pid) == list(range(40))
    take_nothing(logs)
    with pytest.raises(ValueError, match="released"):
        bytes(another)


def test_a_slice_that_is_alive_ends_the_step_and_nothing_is_lost(gather, producers):
    logs = gather()
    peers = producers(2)
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.send_many([b'%d' % i for i in range(40)])")
    taken = []
    for step in range(80):
        producer, payload = logs.take()
        taken.append((producer.pid, int(bytes(payload))))
        kept = payload[:1]
        if step in (5, 39, 40, 79):
            for _ in range(2):
                with pytest.raises(BufferError):
                    logs.take(timeout=0)
                with pytest.raises(BufferError):
                    next(iter(logs))
        kept.release()
    for peer in peers:
        assert numbers_of(taken, peer.pid) == list(range(40))
    take_nothing(logs)


def test_checked_records_raise_after_their_step_whoever_sent_the_next(gather, producers):
    logs = gather(checked=True)
    peers = producers(2, dtype="'i4'")
    meet(logs, 2)
    for peer in peers:
        peer.run("producer.write([1, 2])")
    _, rows = logs.take()
    assert rows.sum() == 3
    _, others = logs.take()
    with pytest.raises(RuntimeError, match="borrowed"):
        rows.sum()
    take_nothing(logs)
    with pytest.raises(RuntimeError, match="borrowed"):
        others.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_the_ring_is_free_while_the_gather_waits(gather, start, path, kind):
    logs = gather()
    peer = start("nothing")
    peer.begin(f"producer = ringbell.produce(path, ring_size={SMALL_RING}, **{KINDS[kind]!r})")
    meet(logs, 1)
    peer.reply()
    for _ in range(3):
        count = 64 if kind == "messages" else 1024
        fill = (
            "producer.send_many([b'1'] * 64, 0)"
            if kind == "messages"
            else ("producer.write([1] * 1024, 0)")
        )
        assert peer.run(fill) == str(count)
        assert len(take_some(logs, count)) == count
        take_nothing(logs)


# ---- who goes, and how ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_producer_is_told_as_such_and_harms_nobody(gather, start, kind, caplog):
    gone = []
    logs = gather(left=lambda producer: gone.append((producer.pid, producer.lost)))
    options = {} if kind == "messages" else {"dtype": "'i4'"}
    killed, closing, other = (start("producer", **options) for _ in range(3))
    meet(logs, 3)
    for peer in (killed, closing, other):
        peer.run(SEND[kind] % 7)
    closing.run("producer.close()")
    killed.kill()
    taken = take_some(logs, 3)
    part(logs, 1)
    assert sorted(taken) == sorted((peer.pid, 7) for peer in (killed, closing, other))
    assert sorted(gone) == sorted([(killed.pid, True), (closing.pid, False)])
    assert [r.message for r in caplog.records if "died" in r.message and str(killed.pid)]
    other.run(SEND[kind] % 8)
    assert take_some(logs, 1) == [(other.pid, 8)]


def test_a_producer_that_gives_up_is_lost(gather, start, path):
    gone = []
    logs = gather(left=gone.append)
    peer = start("nothing")
    peer.begin("""
with ringbell.produce(path) as producer:
    producer.send(b"1")
    raise ZeroDivisionError
""")
    assert take_some(logs, 1) == [(peer.pid, 1)]
    part(logs, 0)
    assert [producer.lost for producer in gone] == [True]
    with pytest.raises(PeerError, match="ZeroDivisionError"):
        peer.reply()


@pytest.mark.parametrize(
    "step",
    [
        "producer.send(b'8'); block = producer.reserve(10); block.__enter__()",
        "producer.send(b'8'); [producer.send(b'9' * 100000)]",
        "producer.coalesce().__enter__(); producer.send(b'8')",
        "producer.send_many([b'8'] * 100000)",
    ],
)
def test_a_producer_that_is_killed_in_the_middle_of_a_step_harms_nobody(gather, producers, step):
    logs = gather()
    killed, other = producers(2, ring_size=4096)
    meet(logs, 2)
    killed.begin(step)
    stats = next(p for p in logs.producers if p.pid == killed.pid)._consumer.stats
    wait_until(lambda: stats().driver.producer.entries > 0)
    killed.kill()
    other.run("producer.send(b'7')")
    taken = []
    while len(logs.producers) > 1:
        try:
            producer, payload = logs.take(timeout=0.1)
        except ringbell.RingEmpty:
            continue
        taken.append((producer.pid, bytes(payload)))
    assert set(taken) == {(killed.pid, b"8"), (other.pid, b"7")}


def test_a_producer_that_is_killed_while_it_meets_the_gather_harms_nobody(gather, start, path):
    logs = gather()
    dying = [start("producer") for _ in range(3)]
    for peer in dying:
        wait_until(lambda peer=peer: peer.state() == "S")
        peer.kill()
    peer = start("producer")
    while peer.pid not in [producer.pid for producer in logs.producers]:
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.01)
    peer.run("producer.send(b'1')")
    assert take_some(logs, 1) == [(peer.pid, 1)]
    part(logs, 1)


def test_producers_come_and_go_and_leave_no_descriptor(gather, start, path):
    logs = gather()
    peer = start("nothing")
    take_nothing(logs)
    before = len(os.listdir("/proc/self/fd"))
    peer.begin("""
for i in range(300):
    with ringbell.produce(path, ring_size=4096) as producer:
        producer.send(b"%d" % i)
""")
    assert sorted(take_some(logs, 300)) == [(peer.pid, number) for number in range(300)]
    peer.reply()
    part(logs, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_exception_of_a_hook_comes_out_and_the_loop_may_go_on(gather, producers):
    def fail(_producer):
        raise ZeroDivisionError

    logs = gather(left=fail)
    one, other = producers(2)
    meet(logs, 2)
    one.run("producer.close()")
    with pytest.raises(ZeroDivisionError):
        logs.take(timeout=5)
    other.run("producer.send(b'1')")
    assert take_some(logs, 1) == [(other.pid, 1)]


def test_a_producer_that_the_hook_refuses_is_closed(gather, start, path):
    def fail(_producer):
        raise ZeroDivisionError

    logs = gather(arrived=fail)
    peer = start("producer")
    with pytest.raises(ZeroDivisionError):
        logs.take(timeout=5)
    assert logs.producers == []
    with pytest.raises(PeerError, match="EndOfStream"):
        peer.run("producer.send(b'1'); producer.check_consumer()")


# ---- the name ----


def test_a_gather_keeps_its_name(gather, start, path):
    logs = gather()
    peer = start("nothing")
    for other in ("gather", "consume"):
        peer.begin(f"ringbell.{other}(path)")
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=0.3)
        with pytest.raises(PeerError, match="OSError: .*another consumer"):
            peer.reply()
    peer.begin("ringbell.connect(path)")
    with pytest.raises(ringbell.RingEmpty):
        logs.take(timeout=0.3)
    with pytest.raises(PeerError, match="LayoutMismatch"):
        peer.reply()
    assert logs.path == path
    logs.close()
    assert not list(path.parent.iterdir()), "the name is free again"


def test_a_gather_of_a_name_that_is_in_use_is_refused(start, path):
    consumer = start("consumer")
    wait_until_listening(path)
    with pytest.raises(OSError, match="another consumer") as caught:
        ringbell.gather(path)
    assert caught.value.errno == errno.EADDRINUSE
    consumer.kill()
    device = start("nothing")
    device.run("listener = ringbell.listen(path)")
    device.begin("listener.accept()")
    with pytest.raises(ringbell.LayoutMismatch):
        ringbell.gather(path)


def test_a_producer_that_does_not_hand_its_name_over_is_a_timeout(start, path):
    peer = start("producer")
    wait_until_listening(path)
    peer.stop()
    with pytest.raises(TimeoutError, match="does not answer"):
        ringbell.gather(path, timeout=0.1)
    peer.signal(signal.SIGCONT)
    with ringbell.gather(path) as logs:
        peer.run("producer.send(b'1')")
        assert take_some(logs, 1) == [(peer.pid, 1)]


def test_one_who_connects_and_says_nothing_takes_no_time(gather, producers, path, monkeypatch):
    monkeypatch.setattr(reception, "_FIRST_WORDS", 0.5)
    logs = gather()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent:
        silent.connect(str(path))
        (peer,) = producers(1)
        meet(logs, 1)
        used = time.process_time()
        silent.setblocking(False)
        told = b""
        while not told:
            with pytest.raises(ringbell.RingEmpty):
                logs.take(timeout=0.2)
            with suppress(BlockingIOError):
                told = silent.recv(1000)
        assert time.process_time() - used < 0.3
        assert b"said nothing" in told
    peer.run("producer.send(b'1')")
    assert take_some(logs, 1) == [(peer.pid, 1)]


def test_a_lack_of_descriptors_refuses_one_and_harms_nobody(start, path):
    peer, first, other = start("nothing"), start("nothing"), start("nothing")
    peer.run("logs = ringbell.gather(path)")
    first.begin("producer = ringbell.produce(path)")
    peer.run("while not logs.producers:\n try: logs.take(0.01)\n except ringbell.RingEmpty: pass")
    first.reply()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir(f"/proc/{peer.pid}/fd")))
    resource.prlimit(peer.pid, resource.RLIMIT_NOFILE, (highest + 1, hard))
    peer.run(
        "files = []\nwhile True:\n try: files.append(open('/dev/null'))\n except OSError: break"
    )
    other.begin("producer = ringbell.produce(path)")
    peer.begin("bytes(logs.take()[1])")
    with pytest.raises(PeerError, match="no file descriptor left"):
        other.reply()
    first.run("producer.send(b'1')")
    assert peer.reply() == "b'1'"
    resource.prlimit(peer.pid, resource.RLIMIT_NOFILE, (1000, hard))
    other.begin("producer = ringbell.produce(path); producer.send(b'2')")
    assert peer.run("bytes(logs.take()[1])") == "b'2'"


# ---- waiting, and the end ----


def test_times_are_kept(gather, producers):
    logs = gather()
    for timeout in (0, 0.01):
        with pytest.raises(ringbell.RingEmpty):
            logs.take(timeout=timeout)
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout is"):
            logs.take(timeout=timeout)
    with pytest.raises(TypeError, match="timeout is"):
        logs.take(timeout="1")
    (peer,) = producers(1)
    meet(logs, 1)
    for number in range(50):  # a quick look sees what has arrived just now
        peer.run(f"producer.send(b'{number}')")
        assert bytes(logs.take(timeout=0)[1]) == b"%d" % number


def test_one_sleep_waits_for_all(gather, producers):
    logs = gather(polling="never")
    peers = producers(4)
    meet(logs, 4)
    take_nothing(logs)
    result = []
    thread = threading.Thread(target=lambda: result.append(logs.take()[0].pid))
    before = logs._waiter._counts()[0]
    thread.start()
    wait_until(lambda: logs._waiter._counts()[0] > before)
    peers[2].run("producer.send(b'1')")
    thread.join()
    assert result == [peers[2].pid]
    assert logs._waiter._counts()[0] == before + 1


@pytest.mark.parametrize("how", ["take", "loop"])
@pytest.mark.parametrize("who", ["thread", "handler"])
def test_close_ends_a_wait(start, path, how, who):
    peer = start("nothing")
    producer = start("nothing")
    peer.run("import signal, threading; logs = ringbell.gather(path)")
    producer.begin("producer = ringbell.produce(path)")
    peer.run("while not logs.producers:\n try: logs.take(0.01)\n except ringbell.RingEmpty: pass")
    producer.reply()
    peer.run("signal.signal(signal.SIGUSR1, lambda *_: logs.close())")
    waits = "logs.take()" if how == "take" else "for _ in logs: pass"
    sleeps = "logs._waiter._counts()[0]"
    if who == "thread":
        peer.run(f"sleeps = {sleeps}")
        peer.begin(f"""
def close():
    while {sleeps} == sleeps: time.sleep(0.001)
    logs.close()
thread = threading.Thread(target=close); thread.start()
try: {waits.replace("for _ in logs: pass", "list(logs)")}
finally: thread.join()
""")
    else:
        peer.begin(f"try: {waits.replace('for _ in logs: pass', 'list(logs)')}\nfinally: pass")
        wait_until(lambda: peer.state() == "S")
        peer.signal(signal.SIGUSR1)
    with pytest.raises(PeerError, match="ChannelClosed: this gather has been closed"):
        peer.reply()
    assert not list(path.parent.iterdir())
    with pytest.raises(PeerError, match="EndOfStream"):
        producer.run("producer.send(b'1'); producer.check_consumer()")
    with pytest.raises(PeerError, match="ChannelClosed"):
        peer.run("logs.take(timeout=0)")
    peer.run("logs.close()")


def test_close_in_the_loop_ends_it(gather, producers):
    logs = gather()
    (peer,) = producers(1)
    meet(logs, 1)
    peer.run("producer.send_many([b'1', b'2'])")
    taken = 0
    with pytest.raises(ringbell.ChannelClosed):
        for _ in logs:
            taken += 1
            logs.close()
    assert taken == 1
    assert logs.producers == []


def test_ctrl_c_ends_the_loop(start, path):
    peer = start("nothing")
    peer.run("logs = ringbell.gather(path)")
    for _ in range(2):
        peer.begin("for _ in logs: pass")
        wait_until(lambda: peer.state() == "S")
        peer.signal(signal.SIGINT)
        with pytest.raises(PeerError, match="KeyboardInterrupt"):
            peer.reply()


@pytest.mark.parametrize("how", ["loop", "take"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_raises_loses_nothing(start, path, kind, how):
    peer = start("nothing")
    producers = [start("nothing") for _ in range(2)]
    peer.run(RAISES_INSIDE_RINGBELL)
    peer.run("logs = ringbell.gather(path)")
    for producer in producers:
        producer.begin(f"producer = ringbell.produce(path, ring_size=4096, **{KINDS[kind]!r})")
    peer.run(
        "while len(logs.producers) < 2:\n try: logs.take(0.01)\n except ringbell.RingEmpty: pass"
    )
    for producer in producers:
        producer.reply()
        send = "send(b'%d' % i)" if kind == "messages" else "write([i])"
        producer.begin(f"[producer.{send} for i in range(20000)] and None")
    numbers = "[int(bytes(entries))]" if kind == "messages" else "entries.tolist()"
    step = "for producer, entries in logs:" if how == "loop" else "while True:"
    take = "pass" if how == "loop" else "producer, entries = logs.take()"
    peer.begin(f"""
got = {{}}
count = 0
while count < 40000:
    try:
        {step}
            {take}
            some = {numbers}
            got.setdefault(producer.pid, []).extend(some)
            count += len(some)
            if count == 40000: break
    except KeyboardInterrupt: pass
""")
    with Storm(peer.pid):
        peer.reply()
    assert peer.run("[v == list(range(20000)) for v in got.values()]") == "[True, True]"
    assert int(peer.run("raised")) > 0
    for producer in producers:
        producer.reply()


def test_a_second_thread_gets_an_error(gather, producers):
    logs = gather()
    (peer,) = producers(1)
    meet(logs, 1)
    thread = threading.Thread(target=logs.take)
    before = logs._waiter._counts()[0]
    thread.start()
    wait_until(lambda: logs._waiter._counts()[0] > before)
    with pytest.raises(RuntimeError, match="one thread at a time"):
        logs.take()
    peer.run("producer.send(b'1')")
    thread.join()


def test_an_exception_that_leaves_the_block_counts_what_is_lent_as_not_taken(start, path):
    peer = start("nothing")
    with pytest.raises(ZeroDivisionError), ringbell.gather(path) as logs:
        peer.begin("producer = ringbell.produce(path); producer.send(b'1')")
        logs.take()
        raise ZeroDivisionError
    peer.reply()
    with pytest.raises(PeerError, match="EndOfStream"):
        peer.run("producer.check_consumer()")


def test_a_gather_in_a_forked_child_says_whose_it_is(start, path):
    peer = start("nothing")
    with pytest.raises(PeerError, match="forked"):
        peer.run(
            "import os\n"
            "logs = ringbell.gather(path)\n"
            "reader, writer = os.pipe()\n"
            "child = os.fork()\n"
            "if not child:\n"
            "    try: logs.take(timeout=0)\n"
            "    except Exception as error: os.write(writer, str(error).encode())\n"
            "    logs.close()\n"
            "    os._exit(0)\n"
            "os.waitpid(child, 0)\n"
            "raise RuntimeError(os.read(reader, 1000).decode())"
        )
    other = start("nothing")
    other.begin("producer = ringbell.produce(path); producer.send(b'1')")
    assert peer.run("bytes(logs.take()[1])") == "b'1'", "the parent's goes on"


def test_a_gather_cannot_be_copied(gather):
    with pytest.raises(TypeError, match="gather again"):
        copy.copy(gather())


def test_a_gather_that_is_dropped_warns_and_frees_its_name(path):
    with pytest.warns(ResourceWarning):
        ringbell.gather(path)
        gc.collect()
    assert not list(path.parent.iterdir())
