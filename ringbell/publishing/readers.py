# SPDX-License-Identifier: MIT
"""How the readers of a publication come and go: a thread lets them in, and sees them go."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ringbell import _ends
from ringbell._ffi import ffi, lib
from ringbell.channel.closing import Closing
from ringbell.channel.descriptors import LACKING, Descriptor, Share
from ringbell.channel.nudge import Nudge
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import ChannelClosed, LayoutMismatch
from ringbell.meeting import datagrams, handshake, segment
from ringbell.process import describe
from ringbell.stats import END_WORDS, consumer_from_words

if TYPE_CHECKING:
    from pathlib import Path

    from ringbell._ffi import CData
    from ringbell.channel.channel import Channel
    from ringbell.channel.descriptors import HasDescriptor
    from ringbell.meeting.reception import Guest, Reception
    from ringbell.policy import Policy
    from ringbell.stats import ConsumerCounters

_PATIENCE = 5.0  # seconds, for the thread; it never waits for anybody
_log = logging.getLogger("ringbell")


class Reader:
    """A subscriber of a publication, as the publisher sees it."""

    __slots__ = {  # noqa: RUF023  (what is shown comes first)
        "pid": "Of its process; 0 when it is in another PID namespace.",
        "since": "When it came, in seconds of `time.time()`.",
        "_control": "",
        "_core": "",
        "_kick": "",
        "_mapping": "",
        "_place": "",
    }

    def __init__(self, guest: Guest, mapping: CData) -> None:
        """Note who reads, and own its descriptors; only a publisher makes these."""
        self._mapping = mapping  # keeps the core
        self._core: CData = mapping[0]
        self.pid: int = datagrams.peer_of(guest.control)
        self.since: float = time.time()
        self._control = guest.control
        (self._kick,) = guest.wake_fds
        self._place: int | None = None  # not yet, or no longer

    @property
    def behind(self) -> int:
        """How far it is behind the writer: records, or 64-byte slots of messages; 0 once it left.

        In a publication that keeps the newest it may be more than the ring has: then it will skip.
        """
        return 0 if self._place is None else lib.rb_readers_behind(self._core, self._place)

    def counters(self) -> ConsumerCounters | None:
        """Read what it has done, as in `stats`; None once it left."""
        if self._place is None:
            return None
        words = ffi.new("uint64_t[]", END_WORDS)
        lib.rb_readers_counters(self._core, self._place, words)
        return consumer_from_words(list(words))

    def __repr__(self) -> str:
        return f"<ringbell.Reader {describe(self.pid)}>"


class Holder(Descriptor):
    """A reader that has left and holds blocks, until its process ends: then this is readable."""

    __slots__ = ("place",)

    def __init__(self, place: int, pid: int) -> None:
        """Watch the process. Where the system cannot do that, nothing becomes readable."""
        super().__init__()
        self.place: int = place
        with suppress(OSError):
            lib.rb_owned_adopt(self.handle, os.pidfd_open(pid))


class Readers(Closing):
    """Lets the readers of a publication in, in a thread of its own, and parts with them.

    The thread sleeps until somebody comes or goes. It has no reference to the publisher's ends, so
    a publisher that is dropped goes; then the publisher's half of `life` ends, and the thread too.
    """

    role: handshake.Role = "publisher"

    def __init__(
        self,
        channel: Channel,
        made: segment.Segment,
        policy: Policy,
        reception: Reception,
        life: Descriptor,
        wakes: Descriptor,
    ) -> None:
        """Begin to let readers in; owns `made`, `reception`, `life` and `wakes` from now on."""
        self.policy: Policy = policy
        self._mapping: CData = channel.mapping
        self._core: CData = channel.handle
        self._made = made
        self._reception = reception
        self._life = life
        self._wakes: HasDescriptor = Share(wakes)
        self._nudge = Nudge()
        self._stops = False
        self._readers: list[Reader] = []
        self._holders: list[Holder] = []
        self._thread = threading.Thread(target=self._run, name="ringbell.publish", daemon=True)
        self._thread.start()

    def now(self) -> list[Reader]:
        """Give the readers that are connected now, in the order of their arrival."""
        return list(self._readers)

    @property
    def path(self) -> Path:
        """The path of the Unix socket."""
        return self._reception.path

    def stop(self) -> None:
        """Let nobody in any more, and free the name; the readers stay."""
        self._stops = True
        self._nudge.give()
        if self._thread is not threading.current_thread():
            self._thread.join(_PATIENCE)

    def close(self) -> None:
        """Part with all readers, whom the closed channel has told. Closing twice does nothing."""
        self.stop()
        while self._readers:
            self._part(self._readers[-1])
        for holder in self._holders:
            holder.close()
        for owned in (self._made, self._life, self._wakes, self._nudge):
            owned.close()

    # ---- the thread ----

    def _run(self) -> None:
        try:
            while not self._stops:
                self._step()
        except ChannelClosed:
            return  # in a forked child, or the name was freed
        finally:
            self._reception.close()
            if not self._stops:  # the publisher was dropped
                self._stops = True
                self.close()

    def _step(self) -> None:
        """Wait until somebody comes or goes, and see to it."""
        readers = list(self._readers)
        always = [self._nudge.fileno(), self._life.fileno(), self._reception.fileno()]
        controls = [reader._control.fileno() for reader in readers]
        silence = self._reception.silence_over()
        ends = [end for holder in self._holders if (end := holder.fileno()) >= 0]
        ready = set(_ends.wait_readable([*always, *controls, *ends], seconds_left(silence)))
        if self._life.fileno() in ready:
            raise ChannelClosed("the publisher has gone")
        for reader, control in zip(readers, controls, strict=True):
            if control in ready:
                self._part(reader)
        self._look_at_holders(ready)
        if not self._stops:
            self._let_in()

    def _let_in(self) -> None:
        """Hear all who have come."""
        while True:
            try:
                self._reception.receive(self, deadline_after(0))
            except TimeoutError:
                return
            except LayoutMismatch:
                continue  # a subscriber of another kind; it has been told
            except OSError as error:
                if error.errno not in LACKING:
                    raise
                _log.warning("refused a subscriber on %s: %s", self.path, error.strerror)
                return

    def meet(self, guest: Guest) -> None:
        """Offer the memory, and a control page, to a guest."""
        kick = Descriptor()
        guest.wake_fds.append(kick)
        if status := lib.rb_owned_eventfd(kick.handle):
            raise OSError(-status, f"cannot make an eventfd: {os.strerror(-status)}")
        page = segment.create_page()
        guest.segment = page.hand_over()
        descriptors = [self._made.descriptor, self._wakes.fileno(), kick.fileno()]
        handshake.say_hello(
            guest.control,
            self.role,
            [*descriptors, guest.segment.fileno()],
            self.policy.codec,
        )
        guest.answered()

    def go_on(self, guest: Guest, text: bytes, /) -> Reader:
        """Admit a subscriber that has said welcome."""
        if text != handshake.WELCOME:
            handshake.check_answer(text, "subscriber")
            raise handshake.unknown(text)
        reader = Reader(guest, self._mapping)
        # Listed first: a call that waited for it may ask at once who is there. And it may be gone
        # before this thread does its next step.
        self._readers.append(reader)
        try:
            self._admit(reader, guest)
        except BaseException:
            self._readers.remove(reader)
            raise
        return reader

    def _admit(self, reader: Reader, guest: Guest) -> None:
        assert guest.segment is not None, "meet has been here"
        (kick,) = guest.numbers()
        control = guest.control.fileno()
        page, yours = guest.segment.fileno(), handshake.YOURS
        place = lib.rb_readers_admit(self._core, page, kick, control, yours, len(yours))
        if place == -errno.EUSERS:
            raise OSError(errno.EUSERS, "the publication has as many subscribers as it can, 64")
        if place < 0:
            raise OSError(-place, f"cannot admit a subscriber: {os.strerror(-place)}")
        reader._place = place

    def _part(self, reader: Reader) -> None:
        """Part with a reader that has gone."""
        place, reader._place = reader._place, None
        if place is not None:  # a fork may have come before the core admitted it
            self._leave(place, reader.pid)
        reader._control.close()
        reader._kick.close()
        self._readers.remove(reader)

    def _leave(self, place: int, pid: int) -> None:
        """Free a reader's place in the core. It may hold blocks as long as its process lives."""
        if lib.rb_readers_let_go(self._core, place):
            _log.warning(
                "let a subscriber on %s go, %s: it held the writer back for longer than its stall, "
                "or wrote nonsense",
                self.path,
                describe(pid),
            )
        if lib.rb_readers_leave(self._core, place):
            self._holders.append(Holder(place, pid))

    def _look_at_holders(self, ready: set[int]) -> None:
        """Part with those who hold nothing any longer, or whose process has ended."""
        for holder in list(self._holders):
            if holder.fileno() in ready or not lib.rb_readers_leave(self._core, holder.place):
                if holder.fileno() in ready:
                    lib.rb_readers_remove(self._core, holder.place)
                self._holders.remove(holder)
                holder.close()
