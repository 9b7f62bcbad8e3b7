# SPDX-License-Identifier: MIT
"""The worker processes of a pool, and the thread that gives them requests."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
from collections import deque
from multiprocessing.connection import Connection

from ringbell._ffi import lib
from ringbell.calls.driver import Driver
from ringbell.calls.failures import describe_error
from ringbell.calls.opening import CONNECT_SECONDS
from ringbell.channel import forks
from ringbell.channel.nudge import Nudge
from ringbell.deadlines import deadline_after, seconds_left
from ringbell.errors import (
    ChannelClosed,
    CorruptRing,
    EndOfStream,
    PeerLost,
    RingbellError,
    RingEmpty,
    RingFull,
)
from ringbell.launching.device import for_child, meet, serve_parent
from ringbell.launching.jobs import Job
from ringbell.launching.member import Member
from ringbell.launching.names import private_path
from ringbell.launching.plan import Plan
from ringbell.launching.worker import GRACE, Worker
from ringbell.waiting import Waiter

_log = logging.getLogger("ringbell")

_GONE = (PeerLost, EndOfStream, CorruptRing, ChannelClosed)
_CLOSED = "this pool has been closed; make another one"
_FORKED = "this pool belongs to the process that this one was forked from; make another one"


class Crew:
    """Has requests answered by worker processes; `put` is for any thread and any signal handler.

    One thread does everything with the workers, so nothing here needs a lock. Others leave requests
    in a deque, whose steps are atomic, and write to an eventfd that the thread waits for, too.
    """

    def __init__(self, plan: Plan, timeout: float | None) -> None:
        """Start the workers, and wait until all of them are there."""
        deadline = deadline_after(timeout)
        self._plan = plan
        self._todo: deque[Job] = deque()
        self._nudged = False
        self._closing = False
        self._stops = False
        self._over = False
        self._broken: str | None = None
        self._forked = False
        self._restarts = plan.restarts
        self._members: list[Member] = []
        self._serving: list[Member] = []
        self._of: dict[object, Member] = {}
        self._waiter: Waiter[Driver | Connection | Nudge] = Waiter(
            polling=plan.policy["polling"],
            max_poll=plan.policy["max_poll"],
            max_share=plan.policy["max_share"],
        )
        self._nudge = Nudge()
        self._thread = threading.Thread(target=self._run, name="ringbell pool", daemon=True)
        forks.watch(self)
        try:
            self._waiter.add(self._nudge)
            for cpu in plan.cpus:
                self._start(cpu)
            for member in self._members:
                member.process.wait_until_ready(deadline)
                self._meet(member, seconds_left(deadline))
        except BaseException:
            self._stops = True
            self._end()
            raise
        self._thread.start()
        self._watch_exit()

    # ---- for any thread ----

    def put(self, job: Job) -> None:
        """Have a request answered; call `refusal` before."""
        self._todo.append(job)
        if not self._nudged:
            self._wake()
        if self._over:
            self._refuse_all()

    def refusal(self) -> Exception | None:
        """Give the error with which further requests are refused, if they are."""
        if self._forked:
            return ChannelClosed(_FORKED)
        if self._closing or self._over:
            return ChannelClosed(_CLOSED)
        return PeerLost(self._broken) if self._broken else None

    def check_process(self) -> None:
        """Raise ChannelClosed in a forked child, where nothing would ever be answered."""
        if self._forked:
            raise ChannelClosed(_FORKED)

    def leave_to_parent(self) -> None:
        """Leave the workers to the process that started them; in a forked child."""
        self._forked = True

    @property
    def pids(self) -> list[int]:
        """The processes that answer now."""
        return [member.process.pid for member in list(self._serving)]

    def close(self) -> None:
        """Wait until everything has been answered and the workers have ended."""
        if self._forked:
            return
        try:
            self._closing = True
            self._wake()
            self._join(None)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the workers at once. What they have not answered fails with ChannelClosed."""
        if self._forked:
            return
        self._stops = self._closing = True
        self._wake()
        # The thread may be sending a long request to a worker that does not take it.
        self._kill(signal.SIGTERM)
        if not self._join(GRACE):
            self._kill(signal.SIGKILL)
            self._join(None)

    def _kill(self, number: signal.Signals) -> None:
        for member in list(self._members):
            member.process.send_signal(number)

    def _join(self, timeout: float | None) -> bool:
        """Wait for the thread; False if it takes longer. It does not wait for itself."""
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        return not self._thread.is_alive() or threading.current_thread() is self._thread

    def _wake(self) -> None:
        kick, nudge = lib.rb_owned_kick, self._nudge.handle  # as Nudge.give does
        # No call between these two: a signal handler that raises there would lose the nudge.
        self._nudged = True
        kick(nudge)

    def _refuse_all(self) -> None:
        """Fail what nobody will answer any more."""
        while self._todo:
            try:
                job = self._todo.popleft()
            except IndexError:  # another thread does the same
                return
            job.fail(self.refusal() or ChannelClosed(_CLOSED))

    # ---- the thread ----

    def _run(self) -> None:
        try:
            while not self._stops:
                self._hand_out()
                if self._is_done():
                    break
                for ready in self._waiter.wait():
                    self._look_at(ready)
        except BaseException:
            self._stops = True
            _log.exception("the thread of a pool failed; this is a bug in ringbell")
        finally:
            self._end()

    def _is_done(self) -> bool:
        return self._closing and not self._todo and not any(m.flight for m in self._serving)

    def _look_at(self, ready: object) -> None:
        if ready is self._nudge:
            self._nudge.take()
            self._nudged = False  # before the look at what there is to do
            return
        member = self._of.get(ready)
        if member is None:  # it was lost during this look
            return
        if ready is member.driver:
            self._take(member)
        else:
            self._hear(member)

    def _hand_out(self) -> None:
        """Give the workers what they have room for, each an equal part of what is left."""
        if self._broken:
            self._refuse_all()
        todo = self._todo
        if not todo:
            return
        free = [member for member in self._serving if member.room > 0]
        free.sort(key=lambda member: len(member.flight))
        for left, member in zip(range(len(free), 0, -1), free, strict=True):
            part = -(-len(todo) // left)
            self._give(member, min(part, member.room))

    def _give(self, member: Member, count: int) -> None:
        driver, flight, todo, retry = member.driver, member.flight, self._todo, self._plan.retry
        assert driver is not None, "it serves"
        submit = driver.submit
        member.answered = False
        while count and todo:
            job = todo.popleft()
            if not job.owner.wanted:
                continue
            payload = job.payload
            assert payload is not None, "it was not sent, or it is kept"
            try:
                try:
                    token = submit(payload, 0)
                except RingFull:
                    if flight:
                        todo.appendleft(job)
                        return
                    token = submit(payload)  # longer than the ring
            except _GONE:
                todo.appendleft(job)
                self._take(member)
                return
            except Exception as error:  # the payload is no buffer
                job.fail(error)
                continue
            flight[token] = job
            if not retry:
                job.payload = None
            count -= 1

    def _take(self, member: Member) -> None:
        """Take all answers that have come."""
        driver, flight, found = member.driver, member.flight, 0
        assert driver is not None, "it serves"
        reap = driver._reap
        try:
            while True:
                completion = reap[0]
                flight.pop(completion.token).complete(completion)
                found += 1
        except RingEmpty:
            if found:
                sunk = member.limit - member.limit // 8 - 1
                member.limit = min(max(2 * found, sunk), self._plan.depth)
                member.answered = True
        except _GONE as error:
            self._lose(member, describe_error(error))

    # ---- workers that come and go ----

    def _start(self, cpu: int | None) -> None:
        plan, path = self._plan, private_path("worker")
        process = Worker(
            "worker",
            serve_parent,
            plan.parcel,
            plan.start_method,
            path=path,
            cpu=cpu,
            **for_child(plan.policy),
        )
        try:
            self._waiter.add(process.reports)
        except BaseException:
            process.stop()
            process.close()
            raise
        member = Member(process, path, cpu)
        self._of[process.reports] = member
        self._members.append(member)

    def _meet(self, member: Member, timeout: float | None) -> None:
        """Connect to a worker that is ready, and have it serve."""
        member.met = True
        options = {**self._plan.memory, **self._plan.policy}
        driver = meet(member.process, member.path, timeout=timeout, **options)
        try:
            self._waiter.add(driver)
        except BaseException:
            driver._give_up()
            raise
        member.driver = driver
        self._of[driver] = member
        self._serving.append(member)

    def _hear(self, member: Member) -> None:
        """Take a report of a worker's process."""
        process = member.process
        process.hear()
        if process.over:
            self._forget(process.reports)
            why = process.trouble(0)
            if why:
                _log.warning("%s", why)
            process.close()
            self._part_from(member)
            if not member.met:
                self._replace(member, why or "it ended")
        elif process.ready and not member.met:
            try:
                self._meet(member, CONNECT_SECONDS)
            except (OSError, RingbellError) as error:
                process.send_signal(signal.SIGKILL)
                self._replace(member, describe_error(error))

    def _lose(self, member: Member, why: str) -> None:
        """Let go of a worker whose channel has ended."""
        driver, jobs = member.driver, list(member.flight.values())
        assert driver is not None, "it serves"
        self._forget(driver)
        self._serving.remove(member)
        member.driver = None
        member.flight.clear()
        driver._give_up()
        self._part_from(member)
        if self._plan.retry:
            self._todo.extendleft(reversed(jobs))
        else:  # what has been sent is not kept, so it is never sent again
            lost = f"the worker died before it answered this request: {why}"
            for job in jobs:
                job.fail(ChannelClosed(_CLOSED) if self._stops else PeerLost(lost))
        self._replace(member, why)
        self._wake()  # this may happen while the requests are handed out

    def _part_from(self, member: Member) -> None:
        """Forget a worker when both its channel and its process have ended, in whichever order."""
        if member.process.over and not member.driver:
            self._members.remove(member)

    def _replace(self, lost: Member, why: str) -> None:
        """Start another one in place of a worker, if that may be."""
        while self._restarts and not self._stops and (self._todo or not self._closing):
            self._restarts -= 1
            try:
                self._start(lost.cpu)
            except Exception as error:  # no memory, no process, no descriptor
                why = describe_error(error)
                _log.warning("cannot start another worker: %s", why)
                continue
            self._watch_exit()
            return
        if not self._serving and all(member.met for member in self._members):
            self._broken = (
                f"no worker of this pool is left, and none is started again after "
                f"{self._plan.restarts} times (restarts); the last one: {why}"
            )

    def _forget(self, what: Driver | Connection) -> None:
        del self._of[what]
        self._waiter.discard(what)

    # ---- the end ----

    def _watch_exit(self) -> None:
        """Have the exit of the interpreter stop the crew, before it stops each worker."""
        atexit.unregister(self.stop)
        atexit.register(self.stop)

    def _end(self) -> None:
        self._over = self._closing = True
        for member in self._serving:
            self._todo.extend(member.flight.values())
            member.flight.clear()
        self._refuse_all()
        if self._stops:
            self._kill(signal.SIGTERM)
        for member in self._members:
            if self._stops or not member.met:  # who has not met us waits for us
                member.process.stop()  # before the driver goes: the device would warn of that
            if member.driver:
                (member.driver._give_up if self._stops else member.driver.close)()
        self._waiter.close()
        began = self._thread.ident is not None  # if not, what went wrong is raised
        for member in self._members:
            if began and not member.process.over and (why := member.process.trouble()):
                _log.warning("%s", why)
            member.process.close()
        self._members.clear()
        self._serving.clear()
        self._of.clear()
        self._nudge.close()
        atexit.unregister(self.stop)
        forks.forget(self)
