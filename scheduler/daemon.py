"""The daemon: looks at the clock, and fires what is due.

Any number of them may run. Each fires whatever it sees due; that an instant is fired once is the database's business
(``fire_v1``), and nobody leads. What a daemon holds in memory is which schedules there are and when it wants to look at
each of them again, so it can be killed or stopped at any moment.

- Once a second it asks which schedules there are, in which version, and what time it is; every ten seconds it says that
  it lives.
- A timer for each schedule comes at its next instant, or at once if the schedule is new or was changed. Then its row
  is read, and what is due by it is fired in one statement; what that says decides when the timer comes again.
- While the database is away timers do nothing. Once it is back all schedules are looked at, and the policy of each
  decides about what was missed.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.logger import get_logger
from pipeline.store import schedules
from pipeline.store.schedules import Beat, Due
from scheduler.database import Database, Outage, is_away
from scheduler.database_clock import DatabaseClock
from scheduler.due import timing_of
from scheduler.failures import Failures
from scheduler.instants import following
from scheduler.messages import task_of
from scheduler.policy import DueNow, due_now
from scheduler.timers import Timers
from scheduler.totals import Totals

if TYPE_CHECKING:
    from pipeline import PostgresBroker
    from pipeline.store.schedules import Fired, ScheduleRow
    from scheduler.timing import Timing

#: So many schedules are fired at the same time.
_THREADS = 4
_LOOK_SECONDS = 1.0
_BEAT_SECONDS = 10.0
#: Several daemons come a little apart, so that most of them find an instant done instead of being done.
_SPREAD_SECONDS = 0.03
#: When to look again at a schedule that somebody else fires just now, or whose time has not come there.
_SOON_SECONDS = (0.02, 0.1)
#: When to look again at one that cannot be fired. Whoever mends it changes it, which is seen at once.
_RETRY_SECONDS = 5.0
#: What is left to statements when it is to stop; and how long a stop waits for their threads, and for the last beat.
_HURRY_SECONDS, _STOP_SECONDS = 0.5, 1.0

log = get_logger(__name__)


class Daemon:
    """Fires schedules from :meth:`start` to :meth:`stop`. Threads of its own do all the work."""

    def __init__(self, broker: PostgresBroker) -> None:
        self._process = socket.gethostname(), os.getpid()
        self._number: int | None = None
        self._database = Database(broker)
        self._outage = Outage()
        self._clock = DatabaseClock()
        self._timers = Timers(self._attend, threads=_THREADS)
        self._failures = Failures()
        self._totals = Totals()
        self._beats_at = 0.0
        self._is_stopping = False
        self._look_soon = threading.Event()
        self._looker = threading.Thread(target=self._keep_looking, name="pipeline-scheduler-look", daemon=True)
        #: Guards what follows; told when a schedule is not attended to any more.
        self._mutex = threading.Condition()
        #: The schedules that are not paused, as they were seen last.
        self._versions: dict[int, int] = {}
        #: Those that a thread attends to now, and those of them that were changed meanwhile.
        self._attended: set[int] = set()
        self._changed: set[int] = set()

    def start(self) -> None:
        """Begin to look and to fire."""
        self._timers.start()
        self._looker.start()

    def stop(self) -> bool:
        """Fire nothing more, and say so; within two seconds, also if the database does not answer.

        Returns:
            False if a thread still waits: for a connection, which nobody can hurry.
        """
        with self._mutex:
            if self._is_stopping:
                return True
            self._is_stopping = True
        self._look_soon.set()
        self._timers.stop()
        ends_at = time.monotonic() + _STOP_SECONDS
        with self._database.hurried(_HURRY_SECONDS):
            self._looker.join(_STOP_SECONDS)
            with self._mutex:
                has_ended = self._mutex.wait_for(lambda: not self._attended, max(ends_at - time.monotonic(), 0))
        if not self._looker.is_alive() and not self._outage.is_on:
            self._say_goodbye()
        log.info("scheduler.stopped", scheduler_id=self._number)
        return has_ended

    def _say_goodbye(self) -> None:
        """Say that it ends; should the database fall silent just now, it counts as dead a minute later."""
        last = threading.Thread(target=self._beat_last, name="pipeline-scheduler-end", daemon=True)
        last.start()
        last.join(_STOP_SECONDS)

    def _beat_last(self) -> None:
        try:
            self._beat(ends=True)
        except Exception as error:  # noqa: BLE001 - it ends anyway
            log.warning("scheduler.end_not_told", error=str(error).strip())

    # --- which schedules there are ------------------------------------------------------------------------------------

    def _keep_looking(self) -> None:
        while not self._is_stopping:
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
                self._outage.begin(error)
            self._look_soon.wait(_LOOK_SECONDS)
            self._look_soon.clear()

    def _look(self) -> None:
        asked_at = time.monotonic()
        versions, now = self._database.ask(schedules.versions)
        has_jumped = self._clock.set(now, asked_at=asked_at, answered_at=time.monotonic())
        if has_jumped:
            log.warning("scheduler.clock_jumped", database_time=now.isoformat())
        self._take(versions, anew=self._outage.end() or has_jumped)
        if time.monotonic() >= self._beats_at and not self._is_stopping:
            self._beat()

    def _take(self, versions: dict[int, int], *, anew: bool) -> None:
        """Look at the schedules that are new or were changed, or at all of them; in any order, as others do."""
        with self._mutex:
            if self._is_stopping:
                return
            known, self._versions = self._versions, versions
            for number in random.sample(sorted(versions), len(versions)):
                if anew or versions[number] != known.get(number):
                    self._attend_soon(number)
            for number in known.keys() - versions.keys():
                self._timers.clear(number)
                self._failures.remove(number)

    def _attend_soon(self, number: int) -> None:
        if number in self._attended:
            self._changed.add(number)
        else:
            self._timers.set(number, 0)

    def _beat(self, *, ends: bool = False) -> None:
        counts, self._beats_at = self._totals.taken(), time.monotonic() + _BEAT_SECONDS
        try:
            beat = Beat(*self._process, datetime.now(UTC), self._failures.schedules, counts, ends)
            number, _ = self._database.ask(schedules.beat, self._number, beat)
        except BaseException:
            self._totals.put_back(counts)
            raise
        if self._number is None:
            log.info("scheduler.started", scheduler_id=number)
        self._number = number

    # --- one schedule -------------------------------------------------------------------------------------------------

    def _attend(self, number: int) -> None:
        """Do what is to be done for a schedule, and set its timer; called when that comes, by one thread at a time."""
        with self._mutex:
            if self._is_stopping or number in self._attended or number not in self._versions:
                return
            self._attended.add(number)
        seconds: float | None = _RETRY_SECONDS
        try:
            seconds = self._read_and_fire(number)
        finally:
            with self._mutex:
                self._attended.discard(number)
                self._mutex.notify_all()
                if number in self._changed:
                    self._changed.discard(number)
                    seconds = 0
                if seconds is not None and number in self._versions and not self._is_stopping:
                    self._timers.set(number, seconds)

    def _read_and_fire(self, number: int) -> float | None:
        """Fire what is due; return in how many seconds to look again, ``None`` if only a change can be the reason."""
        if self._outage.is_on:
            return None  # the look that ends it looks at all of them
        try:
            schedule = self._database.ask(schedules.to_fire, number)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other schedules go on
            return self._give_up(number, f"number {number}", error)
        return None if schedule is None or schedule.paused_at else self._try_to_fire(schedule)

    def _try_to_fire(self, schedule: ScheduleRow) -> float | None:
        try:
            seconds = self._fire(schedule)
        except Exception as error:  # noqa: BLE001 - as above
            return self._give_up(schedule.schedule_id, schedule.name, error)
        self._failures.remove(schedule.schedule_id)
        return seconds

    def _give_up(self, number: int, name: str, error: Exception) -> float | None:
        if is_away(error):
            self._outage.begin(error)
            self._look_soon.set()
            return None
        self._failures.add(number, name, error)
        return _RETRY_SECONDS

    def _fire(self, schedule: ScheduleRow) -> float | None:
        timing = timing_of(schedule)
        due = due_now(schedule, timing, self._clock.now())
        if due is None:
            return self._until_next(timing, schedule.done_until)
        tasks = [(instant, task_of(schedule)) for instant in due.instants]
        wanted = Due(
            schedule.schedule_id, schedule.version, schedule.done_until, due.until, tasks, due.missed, due.missed_count
        )
        found = self._database.ask(schedules.fire, wanted, by=":".join(map(str, self._process)))
        match found.state:
            case "fired":
                self._tell(schedule, due, found)
                return self._until_next(timing, due.until)
            case "stale":
                return 0
            case _:  # busy, early
                return random.uniform(*_SOON_SECONDS)  # noqa: S311

    def _until_next(self, timing: Timing, after: datetime) -> float | None:
        due_at = following(timing, after)
        if due_at is None:
            return None
        return (due_at - self._clock.now()).total_seconds() + random.uniform(0, _SPREAD_SECONDS)  # noqa: S311

    def _tell(self, schedule: ScheduleRow, due: DueNow, found: Fired) -> None:
        self._totals.add(schedule.name, fired=found.fired, left_out=found.left_out, missed=due.missed_count)
        log.info(
            "schedule.fired",
            schedule=schedule.name,
            due_at=due.until.isoformat(),
            fired=found.fired,
            left_out=found.left_out,
            missed=due.missed_count,
        )
