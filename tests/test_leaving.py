# SPDX-License-Identifier: MIT
"""How a channel ends: closed, killed, forked, forgotten."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import PeerError, sleeps_without_end, switches, wait_until, wait_until_blocked

import ringbell


def test_a_device_takes_all_that_was_sent_before_the_driver_closed(start, connect):
    device = start("device")
    driver = connect()
    for i in range(50):
        driver.submit(b"%d" % i)
    driver.close()
    # Nobody wants the answers any more. The device gets no error for them.
    taken = device.run("[(bytes(r.payload), r.complete())[0] for r in device]")
    assert taken == repr([b"%d" % i for i in range(50)])
    with pytest.raises(PeerError, match="EndOfStream: .*closed the channel"):
        device.run("device.take()")


def test_a_driver_takes_all_that_was_completed_before_the_device_closed(start, connect):
    device = start("device")
    driver = connect()
    for _ in range(50):
        driver.submit(b"x")
    device.run("[device.take().complete(b'%d' % i) for i in range(40)]")
    device.run("device.close()")
    assert [driver.reap().payload for _ in range(40)] == [b"%d" % i for i in range(40)]
    with pytest.raises(ringbell.EndOfStream) as caught:
        driver.reap()
    assert "not answered: 10" in caught.value.__notes__[0]


WAITS = {
    "call": ("driver", "driver.call(b'x')"),
    "reap": ("driver", "driver.submit(b'x'), driver.reap()"),
    "interrupt.recv": ("driver", "driver.interrupt.recv()"),
    "submit to a full ring": ("driver", "[driver.submit(b'x' * 100) for _ in range(100)]"),
    "submit in pieces": ("driver", "driver.submit(b'x' * 100_000)"),
    "map": ("driver", "list(driver.map([b'x'] * 10, depth=3))"),
    "reserve": ("driver", "[driver.submit(b'') for _ in range(64)], driver.reserve(1)"),
    "take": ("device", "device.take()"),
    "iteration": ("device", "next(iter(device))"),
    "doorbell.recv": ("device", "device.doorbell.recv()"),
    "interrupt.send": ("device", "[device.interrupt.send(b'x' * 100) for _ in range(100)]"),
    "complete": ("device", "[device.take().complete(b'x' * 1000) for _ in range(10)]"),
}


@pytest.mark.parametrize("polling", ["adaptive", "always"])
@pytest.mark.parametrize("wait", WAITS)
def test_a_killed_peer_is_noticed_in_every_wait(start, path, wait, polling):
    side, code = WAITS[wait]
    names = {"ringbell": ringbell}
    if side == "device":
        with ringbell.listen(path, polling=polling) as listener:
            peer = start("driver", wait=False, ring_size=4096)
            names["device"] = mine = listener.accept()
        assert peer.reply() == "ready"
        peer.run(f"[driver.submit(b'x') for _ in range({10 * (wait == 'complete')})]")
    else:
        peer = start("device")
        names["driver"] = mine = ringbell.connect(path, ring_size=4096, polling=polling)
    with mine:
        killer = threading.Thread(target=kill_when_waiting, args=(peer, mine, side, polling))
        killer.start()
        try:
            with pytest.raises(ringbell.PeerLost, match=f"process {peer.pid}.* died without"):
                eval(code, names)
        finally:
            killer.join()
        with pytest.raises(ringbell.PeerLost):
            mine.interrupt.send(b"") if side == "device" else mine.doorbell.send(b"")


def kill_when_waiting(peer, mine, side, polling):
    wait_until_blocked(mine, side, polling)
    peer.kill()


def test_a_killed_peer_is_noticed_by_one_who_only_looks(start, connect):
    device = start("device")
    driver = connect()
    device.kill()
    with pytest.raises(ringbell.PeerLost):
        while True:
            with pytest.raises(ringbell.RingEmpty):
                driver.interrupt.recv(timeout=0)


def test_what_a_killed_peer_sent_is_taken_first(start, connect):
    device = start("device")
    driver = connect()
    device.run("[device.interrupt.send(b'%d' % i) for i in range(10)]")
    device.kill()
    assert [driver.interrupt.recv() for _ in range(10)] == [b"%d" % i for i in range(10)]
    with pytest.raises(ringbell.PeerLost):
        driver.interrupt.recv()


def test_a_device_killed_under_load_loses_no_answer_it_gave(start, connect):
    device = start("serve", handler="upper")
    driver = connect()
    answered = 0
    with pytest.raises(ringbell.PeerLost):
        for answer in driver.map(b"%d" % i for i in range(10**9)):
            assert answer == b"%d" % answered
            answered += 1
            if answered == 5000:
                device.signal(signal.SIGKILL)
    assert answered >= 5000
    assert driver.stats().iwi == driver.stats().iri


def test_a_driver_that_disappears_in_the_middle_of_a_request_is_passed_over(start, connect, path):
    start("serve", handler="upper")
    lost = start("driver")
    lost.begin("[driver.submit(b'x' * 1000) for _ in range(10**9)]")
    wait_until(lambda: Path(f"/proc/{lost.pid}/stat").read_text().split()[2] in "SR")
    lost.kill()
    assert connect().call(b"next") == b"NEXT"


def test_a_driver_killed_before_the_answer_is_peer_lost_to_the_device(start, path):
    with ringbell.listen(path) as listener:
        peer = start("driver", wait=False)
        device = listener.accept()
    with device:
        peer.reply()
        peer.run("driver.submit(b'x')")
        request = device.take()
        peer.kill()
        request.complete(b"into the void")  # there is room, so it does not look for the peer
        with pytest.raises(ringbell.PeerLost):
            device.take()


def test_nothing_works_after_close(pair):
    driver, device = pair()
    driver.submit(b"x")
    request = device.take()
    driver.close()
    driver.close()
    for use in (
        lambda: driver.submit(b"x"),
        lambda: driver.call(b"x"),
        lambda: driver.reap(),
        lambda: driver.reserve(1),
        lambda: next(driver.map([b"x"])),
        lambda: driver.doorbell.send(b"x"),
        lambda: driver.interrupt.recv(),
    ):
        with pytest.raises(ringbell.ChannelClosed, match="this side has closed the channel"):
            use()
    device.close()
    for use in (device.take, request.complete, device.doorbell.recv):
        with pytest.raises(ringbell.ChannelClosed):
            use()
    assert driver.stats().driver.producer.entries == 1
    assert "closed" in repr(driver)
    assert "closed" in repr(device)


def test_a_listener_does_not_accept_after_close(path):
    listener = ringbell.listen(path)
    listener.close()
    listener.close()
    with pytest.raises(ringbell.ChannelClosed, match="listener has been closed"):
        listener.accept()
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("copied", [copy.copy, lambda one: pickle.dumps(one, 0)])
def test_a_listener_is_not_copied(path, copied):
    with ringbell.listen(path) as listener, pytest.raises(TypeError, match="cannot be copied"):
        copied(listener)


def test_a_channel_that_is_forgotten_warns_and_is_lost_to_the_peer(pair):
    driver, device = pair()
    with pytest.warns(ResourceWarning, match="a ringbell channel was not closed"):
        driver._channel.__del__()
    with pytest.raises(ringbell.PeerLost):
        device.take()


def test_a_forked_child_has_no_say_in_its_parents_channel(start, connect):
    device = start("device")
    driver = connect()
    child = os.fork()
    if child == 0:
        try:
            driver.submit(b"from the child")
        except ringbell.ChannelClosed as error:
            driver.close()
            os._exit(0 if "forked from" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    driver.submit(b"from the parent")
    assert device.run("bytes(device.take().payload)") == "b'from the parent'"


def test_a_forked_child_has_no_say_in_its_parents_listener(path):
    with ringbell.listen(path) as listener:
        child = os.fork()
        if child == 0:
            try:
                listener.accept()
            except ringbell.ChannelClosed as error:
                listener.close()
                os._exit(0 if "forked from" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert path.exists()


def test_a_forked_child_leaves_descriptors_alone_that_are_not_of_ringbell(pair, path):
    driver, device = pair()
    driver.close()
    device.close()
    reused = [path.with_name(f"f{i}").open("w") for i in range(12)]
    child = os.fork()
    if child == 0:
        try:
            for file in reused:
                os.fstat(file.fileno())
        except OSError:
            os._exit(1)
        os._exit(0)
    for file in reused:
        file.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_driver_that_breaks_the_format_does_not_end_the_service(start, connect):
    start("serve", handler="upper")
    driver = connect()
    page = os.sysconf("SC_PAGESIZE")
    mine = ringbell._ffi.lib.rb_channel_mine(driver._channel.handle)
    words = ringbell._ffi.ffi.buffer(mine - page, 8)
    words[:] = b"\xff" * 8  # dwi
    os.eventfd_write(driver._channel._descriptors[1], 1)  # a kick, in case the device sleeps
    with pytest.raises(ringbell.EndOfStream):
        driver.interrupt.recv()
    assert connect().call(b"next") == b"NEXT"


def test_a_death_is_noticed_though_a_forked_child_lives_on(start, connect):
    device = start("device")
    driver = connect()
    child = int(device.run("__import__('os').fork() or __import__('signal').pause()"))
    try:
        device.kill()
        with pytest.raises(ringbell.PeerLost):
            driver.interrupt.recv()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("memory", "mapped"), [("memfd", "/memfd:ringbell"), ("posix", "/dev/shm/")]
)
def test_killing_both_sides_leaves_nothing_in_dev_shm(start, path, memory, mapped):
    device = start("device")
    driver = start("driver", memory=memory)
    driver.run("driver.submit(b'x')")
    maps = Path(f"/proc/{device.pid}/maps").read_text()
    assert mapped in maps
    driver.kill()
    device.kill()
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("ringbell.")]


def test_a_blocked_wait_sleeps_once_and_makes_no_system_calls(start, connect):
    device = start("device")
    driver = connect()
    device.begin("device.take()")
    wait_until(lambda: driver.stats().device.consumer.sleeps == 1)
    wait_until(lambda: sleeps_without_end(device.pid))
    before = switches(device.pid), driver.stats()
    # This waits for nothing: it is the time in which nothing may happen.
    subprocess.run([sys.executable, "-c", "import time; time.sleep(1)"], check=True)
    assert (switches(device.pid), driver.stats()) == before
    driver.submit(b"x")
    assert device.reply().startswith("<ringbell.Request 1")


def test_a_blocked_wait_for_room_soon_makes_no_system_calls_either(start, connect):
    device = start("device", polling="never")
    driver = connect(ring_size=4096)
    device.begin("[device.interrupt.send(b'x' * 100) for _ in range(33)]")
    # The first sleep waits for a good part of the ring, and has a limit. The second one has none:
    # it waits for the room of the message.
    wait_until(lambda: driver.stats().device.producer.sleeps == 2)
    wait_until(lambda: sleeps_without_end(device.pid))
    before = switches(device.pid), driver.stats()
    subprocess.run([sys.executable, "-c", "import time; time.sleep(0.5)"], check=True)
    assert (switches(device.pid), driver.stats()) == before
    driver.interrupt.recv()
    device.reply()


def test_a_stray_write_to_the_peers_memory_faults_in_the_process_that_made_it(start, connect):
    device = start("device")
    driver = connect()
    driver.submit(b"intact")
    device.begin("ringbell._ffi.lib.rb_channel_theirs(device._channel.handle)[16] = b'X'")
    with pytest.raises(PeerError, match=f"Exit: {-signal.SIGSEGV}"):
        device.reply()
    slots = driver._channel.my_slots()
    assert bytes(slots[16:22]) == b"intact"
