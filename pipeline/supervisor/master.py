"""The master: starts the worker processes, replaces those that die, passes a stop on.

It imports no actor and keeps no database connection, so there is nothing in it that a task could harm. The first
process starts alone: if it cannot work at all, that is said once and everything ends; if it works, the others follow.
"""

from __future__ import annotations

import signal
import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg2

from pipeline.db.connection import connect
from pipeline.db.statements import load
from pipeline.errors import PipelineError
from pipeline.logger import get_logger
from pipeline.settings import environment
from pipeline.store import workers
from pipeline.supervisor.plan import EXIT_UNUSABLE, Plan
from pipeline.supervisor.process import Process, describe, start
from pipeline.supervisor.report import Receiver
from pipeline.supervisor.signals import STOP, Signals

if TYPE_CHECKING:
    from pipeline.settings import Settings

#: The longest the master sleeps; signals and reports wake it earlier.
_SLEEP_SECONDS = 5.0
#: A process that lived this long did not die of how it was started.
_HEALTHY_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
#: What a stopping process may take beyond the time its tasks have, to write their outcomes.
_GRACE_SECONDS = 15.0

log = get_logger(__name__)


@dataclass(slots=True)
class _Child:
    """One running process."""

    process: Process
    receiver: Receiver
    started_at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class _Seat:
    """A place for one process, taken by one after the other."""

    child: _Child | None = None
    quick_deaths: int = 0
    due: float = 0.0


class Master:
    """Keeps a number of worker processes running. Run it in the main thread."""

    def __init__(self, plan: Plan, processes: int, url: str, settings: Settings) -> None:
        self._plan = plan
        self._url = url
        self._settings = settings
        self._seats = [_Seat() for _ in range(processes)]
        self._has_worked = False
        self._status = 0
        #: When to lose patience; None while nobody asked us to stop.
        self._deadline: float | None = None

    def run(self) -> int:
        """Run until asked to stop; return the exit status."""
        with Signals(*STOP, signal.SIGCHLD) as signals:
            try:
                while not self._is_over():
                    self._start_due()
                    arrived = signals.wait(self._seconds_to_next(), self._open_files())
                    self._listen()
                    self._reap()
                    self._obey(arrived)
            finally:
                self._kill()
        log.info("supervisor.stopped", status=self._status)
        return self._status

    # --- what runs ------------------------------------------------------------------------------------------------

    @property
    def _children(self) -> list[_Child]:
        return [seat.child for seat in self._seats if seat.child is not None]

    @property
    def _is_stopping(self) -> bool:
        return self._deadline is not None

    def _is_over(self) -> bool:
        return self._is_stopping and not self._children

    def _open_files(self) -> list[int]:
        return [child.receiver.file for child in self._children if child.receiver.is_open]

    def _seconds_to_next(self) -> float:
        """Tell how long there is nothing to do by ourselves."""
        dates = [seat.due for seat in self._wanted() if seat.child is None]
        if self._deadline is not None:
            dates = [self._deadline]
        return min([_SLEEP_SECONDS, *(date - time.monotonic() for date in dates)])

    # --- start ----------------------------------------------------------------------------------------------------

    def _wanted(self) -> list[_Seat]:
        """Name the seats to fill: one until it is known that the plan works."""
        if self._is_stopping:
            return []
        return self._seats if self._has_worked else self._seats[:1]

    def _start_due(self) -> None:
        now = time.monotonic()
        for seat in self._wanted():
            if seat.child is None and seat.due <= now:
                seat.child = self._start()

    def _start(self) -> _Child:
        receiver = Receiver()
        command = self._plan.command(receiver.other_end)
        process = start(command, environment(database_url=self._url), [receiver.other_end])
        receiver.hand_over()
        return _Child(process, receiver)

    def _listen(self) -> None:
        for child in self._children:
            child.receiver.read()
            self._has_worked = self._has_worked or child.receiver.is_working

    # --- death ----------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        for seat in self._seats:
            if seat.child is not None and seat.child.process.poll() is not None:
                self._bury(seat, seat.child)

    def _bury(self, seat: _Seat, child: _Child) -> None:
        """Free the seat of a process that has ended, and the tasks it held."""
        status = child.process.returncode
        child.receiver.read()
        child.receiver.close()
        seat.child = None
        if status == EXIT_UNUSABLE and not self._has_worked:
            self._status = status
            self._stop()
        if not self._is_stopping:
            self._plan_successor(seat, child)
        if status != 0:
            self._rescue(child)

    def _plan_successor(self, seat: _Seat, child: _Child) -> None:
        """Fill the seat again at once, or later and later if one process after the other dies young."""
        is_young = time.monotonic() - child.started_at < _HEALTHY_SECONDS
        seat.quick_deaths = seat.quick_deaths + 1 if is_young else 0
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (seat.quick_deaths - 1), _LONGEST_PAUSE_SECONDS) if is_young else 0.0
        seat.due = time.monotonic() + pause
        how = describe(child.process.returncode)
        log.warning("worker.process_ended", pid=child.process.pid, how=how, replaced_in_seconds=pause)

    def _rescue(self, child: _Child) -> None:
        """Let the tasks of a dead process run elsewhere at once, counted as lost.

        Others would find out by themselves, when its lease is over. So this is tried once.
        """
        worker_id = child.receiver.worker_id
        if not worker_id:
            return
        sql = load(self._settings.schema_name)
        try:
            with closing(connect(self._url)) as connection, connection.cursor() as cursor:
                connection.autocommit = True
                for worker in workers.watch(sql, cursor):
                    if worker.worker_id == worker_id:
                        lost = workers.rescue(sql, cursor, worker, self._settings.max_losses)
                        log.warning("worker.rescued", worker_id=worker_id, lost=lost)
        except (psycopg2.Error, PipelineError) as error:
            log.warning("worker.not_rescued", worker_id=worker_id, error=str(error).strip())

    # --- stop -----------------------------------------------------------------------------------------------------

    def _obey(self, arrived: list[signal.Signals]) -> None:
        """Stop in good order when asked; kill what is left when asked again, or when it takes too long."""
        for number in arrived:
            if number in STOP and not self._is_stopping:
                log.info("supervisor.stopping", signal=number.name, within_seconds=self._settings.stop_seconds)
                self._stop()
            elif number in STOP:
                self._kill()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._kill()

    def _stop(self) -> None:
        self._deadline = time.monotonic() + self._settings.stop_seconds + _GRACE_SECONDS
        for child in self._children:
            child.process.terminate()

    def _kill(self) -> None:
        """End what is left, whatever it does."""
        for seat in self._seats:
            if (child := seat.child) is not None:
                log.warning("worker.process_killed", pid=child.process.pid)
                self._status = self._status or 1
                child.process.kill()
                child.process.wait()
                self._bury(seat, child)
