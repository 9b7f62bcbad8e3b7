# SPDX-License-Identifier: MIT
"""`Pipe`: two connections that know each other from the start."""

from __future__ import annotations

import os

from ringbell._ffi import lib
from ringbell.channel.descriptors import LACKING, Descriptor, Descriptors, Share, make, os_error
from ringbell.meeting import segment
from ringbell.pipes.connection import Connection
from ringbell.policy import Blocks, Policy


def Pipe(  # noqa: N802  (the name in multiprocessing)
    duplex: bool = True, *, ring_size: int = segment.RING_SIZE, blocks: Blocks | None = None
) -> tuple[Connection, Connection]:
    """Make two connections, as `multiprocessing.Pipe` does.

    With `duplex=False` the first only receives and the second only sends. Give one of them to
    another process, as an argument of `multiprocessing.Process` or through another connection,
    before either process sends or receives on it. Then close the own copy of it, so that the death
    of that process is the end of the file.

    `ring_size` is how many bytes lie between the two in each direction before a sender waits, a
    power of two. The memory is reserved at once.

    `blocks` has both ends send large objects and messages by reference, as `Blocks` says: each is
    copied once, into a pool of shared memory for its direction. `recv` then gives large arrays as
    read-only views of it, without a copy. The receiver keeps a block by keeping such an array, also
    after close, and gives it back by dropping all of them. `recv_bytes` copies. With
    `Blocks(when_lent="wait")` a `send` waits for ever while the other end holds too much.

    Raises OSError: EMFILE or ENFILE when there is no file descriptor left (a pipe takes 5, and one
    more for each direction with `blocks`), ENOSPC when there is too little memory; ValueError for a
    bad `ring_size`, TypeError for what is no `Blocks`.
    """
    policy = Policy(blocks=blocks)
    pools = _make_pools(blocks, 2 if duplex else 1)
    if not pools:
        policy = Policy()
    make_segment = segment.create if duplex else segment.create_stream
    with make_segment(ring_size) as made:
        if status := lib.rb_pipe_prepare(made.header, made.descriptor):
            raise OSError(-status, f"cannot write the memory: {os.strerror(-status)}")
        memory = made.hand_over()
    wake_fds = [make("an eventfd", lib.rb_owned_eventfd) for _ in range(2)]
    sockets = Descriptor(), Descriptor()
    if status := lib.rb_socket_pair(*(one.handle for one in sockets)):
        raise os_error(-status, f"cannot make sockets: {os.strerror(-status)}")
    for descriptor in (memory, *wake_fds, *pools, *sockets):
        lib.rb_owned_share(descriptor.handle)
    sides = [Descriptors(one) for one in sockets]
    for owned in sides:
        owned.segment = Share(memory)
        owned.wake_fds = [Share(one) for one in wake_fds]
        owned.pools = [Share(one) for one in pools]
    # The writing end is the driver: in a segment for one direction its ring is the large one.
    second, first = (lib.RB_DEVICE, lib.RB_DRIVER) if duplex else (lib.RB_DRIVER, lib.RB_DEVICE)
    return (
        Connection(sides[0], first, policy, readable=True, writable=duplex),
        Connection(sides[1], second, policy, readable=duplex, writable=True),
    )


def _make_pools(blocks: Blocks | None, count: int) -> list[Descriptor]:
    """Make the memory of the blocks of each end that sends, the driver's first.

    It takes none of the machine's memory yet. Where the system has no memfd there is none, and all
    goes through the ring.
    """
    pools: list[Descriptor] = []
    if blocks is None:
        return pools
    for _ in range(count):
        pool = Descriptor()
        if status := lib.rb_memory_make(pool.handle, lib.RB_MEMORY_MEMFD):
            if -status in LACKING:
                raise os_error(-status, "")
            return []
        page = os.sysconf("SC_PAGESIZE")
        os.ftruncate(pool.fileno(), -(-blocks.pool // page) * page)
        if status := lib.rb_memory_seal(pool.fileno()):
            raise OSError(-status, f"cannot seal the memory: {os.strerror(-status)}")
        pools.append(pool)
    return pools
