"""The master: starts the worker processes, replaces those that die, passes a stop on.

It imports no actor, and waits for no database while its processes work, so there is nothing in it that a task could
harm. The first process starts alone: if it cannot work at all, that is said once and everything ends; if it works, the
others follow.

A process that has worked enough leaves: its seat is taken by a successor at once, while it finishes its tasks. SIGHUP
lets one after the other leave so, each when the successor of the one before works; with new code that cannot be loaded,
the rest stay. SIGUSR1 lets every process log what runs in it.
A process that was drained has no successor; when all are, the master ends.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.broker.board import Board
from pipeline.logger import get_logger
from pipeline.settings import environment
from pipeline.supervisor.forced_ends import ForcedEnds
from pipeline.supervisor.ledger import Ledger
from pipeline.supervisor.orphans import Orphans
from pipeline.supervisor.plan import EXIT_UNUSABLE, Plan
from pipeline.supervisor.process import Process, describe, start
from pipeline.supervisor.report import Receiver
from pipeline.supervisor.signals import REQUESTS, STOP, Signals
from pipeline.supervisor.teller import Teller

if TYPE_CHECKING:
    from pipeline.broker.running import PlacedRun
    from pipeline.settings import Settings

#: The longest the master sleeps; signals and reports wake it earlier.
_SLEEP_SECONDS = 0.5
#: What a process gets to write what has ended and give back what has not begun, before it is killed for a run's sake.
_LAST_SECONDS = 1.0
#: A process that lived this long did not die of how it was started.
_HEALTHY_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
#: What a stopping process may take beyond the time its tasks have, to write their outcomes.
_GRACE_SECONDS = 5.0

log = get_logger(__name__)


@dataclass(slots=True)
class _Child:
    """One running process."""

    process: Process
    receiver: Receiver
    board: Board
    started_at: float = field(default_factory=time.monotonic)
    #: When it will be killed, since a run of it does not end.
    condemned_at: float | None = None
    #: What it held was given back already.
    is_settled: bool = False


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
        self._ledger = Ledger(url, settings)
        self._teller = Teller(url, settings)
        self._orphans = Orphans()
        self._seats = [_Seat() for _ in range(processes)]
        #: Processes that finish their tasks and then end.
        self._leaving: list[_Child] = []
        #: Processes to let leave, since SIGHUP.
        self._to_roll: list[_Child] = []
        #: The last one that was told to.
        self._rolled: _Child | None = None
        self._forced = ForcedEnds(url, settings.schema_name)
        self._has_worked = False
        self._status = 0
        #: When to lose patience; None while nobody asked us to stop.
        self._deadline: float | None = None

    def run(self) -> int:
        """Run until asked to stop; return the exit status."""
        with Signals(*STOP, *REQUESTS, signal.SIGCHLD) as signals:
            self._forced.start()
            self._teller.start()
            try:
                while not self._is_over():
                    self._start_due()
                    arrived = signals.wait(self._seconds_to_next(), self._open_files())
                    self._listen()
                    self._reap()
                    self._obey(arrived)
                    self._roll()
                    self._enforce_limits()
                    self._teller.show(child.board for child in self._children)
            finally:
                self._kill()
                self._forced.stop()
                self._teller.stop()
        log.info("supervisor.stopped", status=self._status)
        return self._status

    # --- what runs ------------------------------------------------------------------------------------------------

    @property
    def _children(self) -> list[_Child]:
        return [seat.child for seat in self._seats if seat.child is not None] + self._leaving

    @property
    def _is_stopping(self) -> bool:
        return self._deadline is not None

    def _is_over(self) -> bool:
        """Tell whether nothing is left to do: we were asked to stop, or every process was drained."""
        return (self._is_stopping or not self._seats) and not self._children

    def _open_files(self) -> list[int]:
        return [child.receiver.file for child in self._children if child.receiver.is_open]

    def _seconds_to_next(self) -> float:
        """Tell how long there is nothing to do by ourselves. Nobody calls when a run goes beyond its limit."""
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
                seat.child = self._start(seat.quick_deaths)

    def _start(self, crashes: int) -> _Child:
        receiver = Receiver()
        board = Board.create(self._plan.threads, crashes)
        files = [receiver.other_end, board.file]
        process = start(self._plan.command(*files), environment(database_url=self._url), files)
        receiver.hand_over()
        return _Child(process, receiver, board)

    def _listen(self) -> None:
        for each in self._children:
            each.receiver.read()
            self._has_worked = self._has_worked or each.receiver.is_working
        for seat in list(self._seats):
            if (child := seat.child) is not None and child.receiver.is_leaving:
                self._leaving.append(child)
                seat.child, seat.due, seat.quick_deaths = None, time.monotonic(), 0
                if child.receiver.is_drained:
                    self._seats.remove(seat)

    # --- death ----------------------------------------------------------------------------------------------------

    def _reap(self) -> None:
        for seat in list(self._seats):
            if (child := seat.child) is not None and child.process.poll() is not None:
                seat.child = None
                if self._bury(child):
                    self._seats.remove(seat)
                elif not self._is_stopping:
                    self._plan_successor(seat, child)
        for child in [each for each in self._leaving if each.process.poll() is not None]:
            self._leaving.remove(child)
            self._bury(child)
        self._orphans.reap([child.process.pid for child in self._children])

    def _bury(self, child: _Child) -> bool:
        """Let the tasks that a process held when it died run elsewhere; tell whether nobody shall take its place."""
        status = child.process.returncode
        child.receiver.read()
        child.receiver.close()
        if status == EXIT_UNUSABLE and not self._has_worked:
            self._status = status
            self._stop()
        worker_id, began = child.board.worker_id, child.board.entries()
        child.board.close()
        if child.is_settled:
            return self._ledger.is_drained(worker_id)
        return worker_id > 0 and self._ledger.rescue(worker_id, began)

    def _plan_successor(self, seat: _Seat, child: _Child) -> None:
        """Fill the seat again at once, or later and later if one process after the other dies young."""
        is_young = time.monotonic() - child.started_at < _HEALTHY_SECONDS
        seat.quick_deaths = seat.quick_deaths + 1 if is_young else 0
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** (seat.quick_deaths - 1), _LONGEST_PAUSE_SECONDS) if is_young else 0.0
        seat.due = time.monotonic() + pause
        how = describe(child.process.returncode)
        log.warning("worker.process_ended", pid=child.process.pid, how=how, replaced_in_seconds=pause)

    # --- hard limits and forced cancels -----------------------------------------------------------------------------

    def _enforce_limits(self) -> None:
        """Kill the processes in which a run does not end, a moment after they were told to leave."""
        now = time.monotonic()
        self._forced.watch([entry for child in self._children for entry in child.board.entries()], now)
        for child in self._children:
            if not child.board.overdue(now) and not self._forced.among(child.board.entries()):
                child.condemned_at = None
            elif child.condemned_at is None:
                child.condemned_at = now + _LAST_SECONDS
                child.process.send_signal(signal.SIGHUP)
            elif now >= child.condemned_at:
                self._execute(child)

    def _execute(self, child: _Child) -> None:
        """Kill a process, and let the tasks it held wait again: those beyond their limit with a verdict.

        Those that were cancelled are concluded as such there, whoever else is the reason.
        """
        child.process.kill()
        child.process.wait()
        overdue = child.board.overdue(time.monotonic())  # read once nothing can change any more
        cancelled = [(entry.id, entry.run) for entry in self._forced.among(child.board.entries())]
        if overdue:
            runs = [(entry.id, entry.run) for entry in overdue]
            log.error("worker.time_limit", pid=child.process.pid, runs=runs)
        if cancelled:
            log.warning("worker.cancel_forced", pid=child.process.pid, runs=cancelled)
        self._settle(child, overdue)

    def _settle(self, child: _Child, overdue: Iterable[PlacedRun] = ()) -> None:
        """Let what a process held wait again that was killed by us: that is no loss."""
        child.is_settled = child.board.worker_id > 0 and self._ledger.end_killed(child.board.worker_id, overdue)

    # --- stop -----------------------------------------------------------------------------------------------------

    def _obey(self, arrived: list[signal.Signals]) -> None:
        """Stop in good order when asked; kill what is left when asked again, or when it takes too long."""
        for number in arrived:
            if number in STOP and not self._is_stopping:
                log.info("supervisor.stopping", signal=number.name, within_seconds=self._settings.stop_seconds)
                self._stop()
            elif number in STOP:
                self._kill()
            elif number is signal.SIGHUP:
                log.info("supervisor.rolling", processes=len(self._seats))
                self._to_roll = [seat.child for seat in self._seats if seat.child is not None]
            elif number is signal.SIGUSR1:
                self._let_tell()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._kill()

    def _let_tell(self) -> None:
        """Let every process log what runs in it; one that does not work yet would be ended by the signal."""
        for child in self._children:
            if child.receiver.is_working:
                child.process.send_signal(signal.SIGUSR1)

    def _roll(self) -> None:
        """Let the next process leave once the one before has left its seat, and whoever sits there now works."""
        self._to_roll = [child for child in self._to_roll if child.process.poll() is None]
        if not self._to_roll or self._is_stopping:
            return
        seated = [seat.child for seat in self._seats]
        if self._rolled not in seated and all(child and child.receiver.is_working for child in seated):
            self._rolled = self._to_roll.pop(0)
            self._rolled.process.send_signal(signal.SIGHUP)

    def _stop(self) -> None:
        self._deadline = time.monotonic() + self._settings.stop_seconds + _GRACE_SECONDS
        for child in self._children:
            child.process.terminate()

    def _kill(self) -> None:
        """End what is left, whatever it does. Its tasks run again elsewhere, uncounted."""
        self._reap()
        killed = self._children
        for child in killed:
            log.warning("worker.process_killed", pid=child.process.pid)
            self._status = self._status or 1
            child.process.kill()
        for child in killed:
            child.process.wait()
            self._settle(child)
        self._reap()
