# SPDX-License-Identifier: MIT
"""Waits of a gather, what ends them, and how a gather ends."""

import copy
import gc
import signal
import threading

import pytest
from gathered import meet, take_nothing
from kinds import KINDS
from processes import RAISES_INSIDE_RINGBELL, PeerError, Storm, wait_until

import ringbell


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
