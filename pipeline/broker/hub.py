"""The hub: one thread, one connection, one statement per cycle for a whole worker process.

Each cycle writes what outcomes have piled up and claims what the threads can take, in one round trip and one commit
(``exchange_v1``). Batches form by themselves while the last round trip is under way; there is no timer, so an idle
system answers at once. The hub also beats the worker's heart, and is the only one that knows its identity.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errorcodes import LOCK_NOT_AVAILABLE

from pipeline.broker.cancels import Cancels
from pipeline.broker.claimed import as_proxy
from pipeline.broker.claims import Claims
from pipeline.broker.consumer import TaskProxy, unstarted
from pipeline.broker.fleet import Fleet
from pipeline.broker.floors import Floors
from pipeline.broker.handover import Handover
from pipeline.broker.heart import Heart
from pipeline.broker.identity import Identity
from pipeline.broker.outcome import Conclusion, as_arguments, given_back, lost, may_be_of_one, refused
from pipeline.broker.pace import Pace, Turns
from pipeline.broker.solitary import Solitary
from pipeline.broker.thread_watch import ThreadWatch
from pipeline.errors import LeaseLost, PipelineError
from pipeline.logger import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dramatiq import Worker

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.handover import Item
    from pipeline.store.workers import Lane

#: Outcomes written in one statement, at most.
_BATCH = 1000
_TICK_SECONDS = 1.0

log = get_logger(__name__)


class Hub(threading.Thread):
    """Claims for all queues and threads of a worker, and writes their outcomes."""

    def __init__(self, broker: PostgresBroker, worker: Worker) -> None:
        super().__init__(name="pipeline-hub", daemon=True)
        self._broker = broker
        self._worker = worker
        self._settings = broker.settings
        self.fleet = Fleet(broker.settings)
        self._identity = Identity(broker, worker.worker_threads, self.fleet)
        self._threads = ThreadWatch(worker)
        self._heart = Heart(broker, self._identity, self._threads)
        self._inbox = Handover()
        self._pending: deque[Conclusion] = deque()
        #: Outcomes that some transaction of others was in the way of; tried again once a second.
        self._blocked: list[Conclusion] = []
        self._held: dict[int, TaskProxy] = {}
        #: Runs taken from us by a rescue that still occupy a thread.
        self._lost: set[TaskProxy] = set()
        self._solitary = Solitary(self._settings.max_losses)
        self._claims = Claims()
        self._cancels = Cancels(broker.interrupter)
        self._lanes: dict[int, Lane] = {}
        self._queues: set[str] = set()
        self._is_claiming = True
        #: No more runs than so many are claimed; 0: as many as there are.
        self.max_runs = 0
        self._is_finishing = threading.Event()
        self._pace = Pace(worker.worker_threads)
        self._floors = Floors()
        self._turns = Turns(broker.settings.anti_starvation_share)
        self._poll_seconds = self.fleet.shortest_pause
        self._next_tick = 0.0

    # --- called from other threads ------------------------------------------------------------------------------------

    @property
    def worker_id(self) -> int:
        """The id under which this process works now; 0 before it is registered and after it lost its lease."""
        return self._identity.worker_id

    @property
    def needs_recycling(self) -> bool:
        """Tell whether a thread died under a task: a supervisor should replace this process."""
        return self._threads.has_lost_one

    @property
    def is_draining(self) -> bool:
        """Tell whether somebody wants this worker to claim nothing more and to end."""
        return self._heart.is_draining

    @property
    def runs(self) -> int:
        """How many runs have ended here."""
        return self._pace.ended_runs

    @property
    def has_run_enough(self) -> bool:
        """Tell whether as many runs have begun here as may."""
        return 0 < self.max_runs <= self.runs + len(self.running())

    @property
    def is_idle(self) -> bool:
        """Tell whether no task is held."""
        return not self._held and self._inbox.empty()

    def running(self) -> list[TaskProxy]:
        """List the runs that have begun, the oldest first."""
        begun = [proxy for proxy in list(self._held.values()) if proxy.started_at is not None]
        return sorted(begun, key=lambda proxy: proxy.started_at or 0)

    @property
    def is_connected(self) -> bool:
        """Tell whether the database was there when it was last asked."""
        return self._identity.is_connected

    def open_queue(self, queue: str) -> None:
        """Claim a queue from now on: Dramatiq has its consumer in place."""
        self._queues.add(queue)
        self.wake()

    def close_queue(self, queue: str) -> None:
        """Claim a queue no more."""
        self._queues.discard(queue)

    def put(self, proxy: TaskProxy) -> None:
        """Take over a run that has ended. Never waits."""
        if proxy.is_settled and self._pace.is_supplied(self._worker.work_queue.qsize()):
            self._inbox.leave(proxy)  # nothing is to be written, and the threads have enough to do
        else:
            self._inbox.put(proxy)

    def give_back(self, proxy: TaskProxy) -> None:
        """Let a task that was not started wait again."""
        self._inbox.put(given_back(proxy))

    def wake(self) -> None:
        """Look for tasks now."""
        self._inbox.put(None)

    def stop_claiming(self) -> None:
        """Claim nothing more and give back what has not started."""
        self._is_claiming = False
        self._give_back_unstarted()

    def finish(self, within: float = 10) -> None:
        """Write the last outcomes, end the worker and this thread."""
        self._is_finishing.set()
        self.wake()
        self.join(within)
        if self.is_alive():
            log.warning("hub.unfinished", worker_id=self.worker_id, outcomes=len(self._pending))

    # --- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Cycle until finished; a lost connection is opened again, a lost lease ends in a new identity."""
        pause = 0.05
        while not self._is_done():
            try:
                self._connect()
                while not self._is_done():
                    self._cycle()
                    pause = 0.05  # not already when connected: the statement may be what fails
            except LeaseLost:
                self._abandon()
            except (psycopg2.Error, PipelineError) as error:
                log.warning("hub.interrupted", worker_id=self.worker_id, error=str(error).strip(), retry_in=pause)
                self._identity.disconnect_if_broken(error)
                self._take_in(self._inbox.wait(random.uniform(pause / 2, pause)))  # noqa: S311
                pause = min(pause * 2, 2.0)
                self._tick_if_due()
            except Exception:
                log.exception("hub.failed", worker_id=self.worker_id)
                self._identity.disconnect()
                self._take_in(self._inbox.wait(1.0))
        self._end()

    def _is_done(self) -> bool:
        left = self._pending or self._blocked or self._claims.done
        return self._is_finishing.is_set() and not left and self._inbox.empty()

    def _cycle(self) -> None:
        now = time.monotonic()
        want = self._want()
        batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
        claimed = 0
        if batch or want > 0 or (self._claims.done and (now >= self._next_tick or not self._held)):
            claimed = self._exchange(batch, want)
        if batch and 0 < claimed < want:  # all that waited
            self._is_finishing.wait(self._pace.pause(now))
        self._attend_solitary()
        self._beat(now)
        self._tick_if_due()
        self._cancels.look_if_due(self._held.values(), self._identity.cancel_requests)
        self._take_in(self._rest(worked=bool(batch or claimed), is_full=claimed == want > 0))

    def _rest(self, *, worked: bool, is_full: bool) -> list[Item]:
        """Wait for whatever comes first: an outcome, a wake-up, the time to look again."""
        if self._pending or is_full:
            return self._inbox.drain()
        if worked:
            self._poll_seconds = self.fleet.shortest_pause
        seconds = random.uniform(0.9, 1.0) * self._poll_seconds  # noqa: S311
        if self._held:
            seconds = min(seconds, max(self._next_tick - time.monotonic(), 0.0))  # for limits, cancels and news
        self._poll_seconds = min(self._poll_seconds * 2, self.fleet.longest_pause)
        # With something in the inbox, what ended during a long exchange would seem not to end at all.
        is_stalled = self._inbox.empty() and self._pace.is_stalled(len(self._held))
        if is_stalled or any(one.paused for one in self._worker.workers):
            self._give_back_unstarted()
        return self._inbox.wait(seconds)

    def _take_in(self, items: Iterable[Item]) -> None:
        """Turn what the threads handed over into outcomes to write."""
        for item in (each for each in items if each is not None):
            conclusion = item if isinstance(item, Conclusion) else self._conclusion_of(item)
            proxy = conclusion.proxy
            if self._held.get(proxy.id) is not proxy:
                self._lost.discard(proxy)  # taken from us by a rescue, or handed over twice
                continue
            del self._held[proxy.id]
            if proxy.started_at is not None:
                self._pace.ended(conclusion.finished_at - proxy.started_at)
            if proxy.is_settled:
                self._claims.settle(proxy)
                self._broker.tally.add([conclusion])
            else:
                self._pending.append(conclusion)

    def _conclusion_of(self, proxy: TaskProxy) -> Conclusion:
        """Read what the run left; one that left nothing had its thread die in its bookkeeping."""
        self._broker.runner.take_off(proxy)
        conclusion = proxy.conclusion or lost(proxy, self._settings.max_losses)
        proxy.conclusion = proxy.task = None  # they hold the proxy, too: Python's collector would have to find it
        return conclusion

    # --- claim --------------------------------------------------------------------------------------------------------

    def _want(self) -> int:
        is_closed = not self._is_claiming or self._is_finishing.is_set() or not self._claimable()
        if is_closed or self._solitary.reserves(self._held):
            return 0
        room = self._pace.target() - len(self._held) - len(self._lost)
        if self.max_runs:
            room = min(room, self.max_runs - self.runs - len(self._held))
        return room if self._pace.is_worth(room, self._worker.work_queue.qsize()) else 0

    def _claimable(self) -> list[str]:
        """Name the queues whose consumers are in place and not paused."""
        consumers = self._worker.consumers
        return [queue for queue in list(self._queues) if queue in consumers and not consumers[queue].paused]

    def _exchange(self, batch: list[Conclusion], want: int) -> int:
        """Write outcomes and claim; on a poisonous outcome, find it and write the others."""
        done = self._claims.ending_with(batch)
        try:
            rows = self._call_exchange(batch, want, done)
        except psycopg2.Error as error:
            if batch and may_be_of_one(error):
                self._isolate(batch, error)
                return 0
            self._pending.extendleft(reversed(batch))
            raise
        except ValueError as error:  # psycopg2 refuses the text
            if not batch:
                raise
            self._isolate(batch, error)
            return 0
        self._claims.ended(batch)
        self._broker.tally.add(batch)
        header, *claimed = rows
        self._floors.learn(header[5], claimed, want, self._lanes)
        if want > 0:
            self._pace.claimed(len(claimed), want, len(self._held))
        self._accept(claimed)
        return len(claimed)

    def _call_exchange(self, batch: list[Conclusion], want: int, done: list[int]) -> list[Any]:
        arguments = as_arguments(batch)
        self._floors.lower((each.proxy.lane_id, each.next_eta) for each in batch)
        floor_lanes, floors = self._floors.arguments() if want > 0 else (None, None)
        arguments |= {
            "done_claims": "{" + ",".join(map(str, done)) + "}",
            "queues": self._claimable(),
            "want": want,
            "floor_lanes": floor_lanes,
            "floors": floors,
            "turn": self._turns.next() if want > 0 else None,
        }
        return self._identity.exchange(arguments)

    def _isolate(self, batch: list[Conclusion], error: Exception) -> None:
        """Halve a batch that PostgreSQL refused until the bad outcome stands alone; that one becomes a failure."""
        if len(batch) == 1 and getattr(error, "pgcode", None) == LOCK_NOT_AVAILABLE:
            self._blocked += batch
            return
        if len(batch) == 1:
            self._pending.appendleft(refused(batch[0].proxy, error))
            log.error("outcome.refused", task_id=batch[0].proxy.message_id, error=str(error).strip())
            return
        # The second half comes next, also if the first one meets a lost connection.
        self._pending.extendleft(reversed(batch[len(batch) // 2 :]))
        self._exchange(batch[: len(batch) // 2], 0)

    def _accept(self, rows: list[Any]) -> None:
        """Hand claimed tasks to the threads."""
        for row in rows:
            self._lane(row[4])  # may ask the database: before any of them counts as held
        self._claims.open(row[0] for row in rows)
        for row in rows:
            proxy, error = as_proxy(row, self._lane(row[4]), self._broker)
            self._held[proxy.id] = proxy
            if error is not None:
                log.error("task.refused", task_id=proxy.message_id, actor=proxy.actor_name, error=str(error))
                self._inbox.put(refused(proxy, error))
            elif not self._is_claiming:  # told to stop while the claim was on its way
                self.give_back(proxy)
            elif not self._solitary.takes(proxy):
                self._begin(proxy)
        if not self._is_claiming or self._solitary.waiting:
            self._give_back_unstarted()

    def _begin(self, proxy: TaskProxy) -> None:
        self._worker.work_queue.put((self._turns.place(proxy.priority), proxy))

    def _attend_solitary(self) -> None:
        """Let a task begin that must be alone, once it is and the outcomes of the others are safe."""
        for each in self._solitary.dismissed(everyone=not self._is_claiming):
            self.give_back(each)
        if not self._pending and not self._lost and (proxy := self._solitary.next(self._held)) is not None:
            log.info("task.alone", task_id=proxy.message_id, losses=proxy.losses)
            self._begin(proxy)

    def _lane(self, lane_id: int) -> Lane:
        if lane_id not in self._lanes:
            self._lanes = self._identity.lanes()
        return self._lanes[lane_id]

    def _give_back_unstarted(self) -> None:
        """Take tasks that wait in this process out of the threads' reach."""
        for proxy in unstarted(self._worker.work_queue):
            self.give_back(proxy)

    # --- the worker's life --------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if not self._identity.is_connected:
            self._identity.connect(self._claims.known())
            self._heart.has_begun()

    def _abandon(self) -> None:
        """Start over as a new worker: everything that was claimed belongs to others now."""
        log.warning("worker.lease_lost", worker_id=self.worker_id, running=len(self._held))
        self._give_back_unstarted()
        self._lost |= {proxy for proxy in self._held.values() if proxy.started_at is not None}
        self._held.clear()
        self._solitary.forget()
        self._claims.clear()
        self._pending.clear()
        self._blocked.clear()
        self._identity.forget()

    def _beat(self, now: float) -> None:
        self._heart.attend(self.running, self._claimable, is_tick=now >= self._next_tick)
        if self.is_draining and self._is_claiming:
            self.stop_claiming()

    def _tick_if_due(self) -> None:
        """Once a second, also while the database is away: time limits, and threads that are gone."""
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + _TICK_SECONDS
        self._pending.extend(self._blocked)
        self._blocked.clear()
        self._broker.interrupter.check_limits()
        for proxy in self._threads.dropped(set(self._held.values()).difference(self._solitary.waiting)):
            self.put(proxy)  # with what it concluded, if it came so far
        self._threads.replace(is_needed=self._is_claiming)

    def _end(self) -> None:
        """Say goodbye; if nobody hears it, the lease runs out."""
        try:
            self._identity.end()
        except (psycopg2.Error, PipelineError) as error:
            log.warning("worker.not_ended", worker_id=self.worker_id, error=str(error).strip())
        self._identity.disconnect()
