"""Everything at once: two workers at the level of SQL against a model of twenty lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Outcome, Run, Session

MAX_LOSSES = 3
NAMES = {"s": "succeeded", "f": "failed", "c": "cancelled"}


@dataclass
class Task:
    """What must be true of one task."""

    state: str = "waiting"  # or claimed, or a final outcome's letter
    run: int = 1
    holder: int = 0
    losses: int = 0
    finals: list[str] = field(default_factory=list)
    lineages: int = 1
    #: Asked to end while it ran.
    is_cancelled: bool = False

    def end(self, letter: str) -> None:
        self.state = letter
        self.finals.append(letter)
        self.is_cancelled = False

    def wait_again(self) -> None:
        """End a run that does not end the task, unless somebody asked for that."""
        if self.is_cancelled:
            self.end("c")
            return
        self.state = "waiting"
        self.run += 1


@dataclass
class Worker:
    id: int
    session: int = 1
    #: All runs it ever got, also those it lost: it may still try to conclude them.
    runs: list[Run] = field(default_factory=list)


class Queue(RuleBasedStateMachine):
    """The store on one side, the model on the other."""

    def __init__(self, db: Session) -> None:
        super().__init__()
        self.db = db
        db.ask("DELETE FROM pipeline.ready; DELETE FROM pipeline.claim; DELETE FROM pipeline.worker")
        self.tasks: dict[str, Task] = {}
        self.workers = [Worker(db.register()), Worker(db.register())]
        self.claimed: set[tuple[str, int]] = set()
        self.zombies: list[Run] = []

    def dice(self, data: Any, things: list[Any]) -> Any:
        return things[data.draw(st.integers(0, len(things) - 1))]

    # --- senders and operators ----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.tasks) < 5)
    @rule()
    def enqueue(self) -> None:
        self.tasks[self.db.enqueue()] = Task()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), mode=st.sampled_from("ufr"))
    def enqueue_again(self, data: Any, mode: str) -> None:
        name = self.dice(data, list(self.tasks))
        task = self.tasks[name]
        if (task.state, mode) == ("claimed", "u"):
            with pytest.raises(psycopg2.Error, match="is running"):
                self.db.enqueue(name)
            return
        # A replay whose original was sent an hour ago by the server's clock: all there is counts as its doing.
        self.db.enqueue(name, mode=mode, since_ms=3_600_000 if mode == "r" else None)
        if task.state in NAMES and mode != "r":
            task.lineages += 1
            task.wait_again()  # never asked to end: it had ended

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        name = self.dice(data, list(self.tasks))
        task = self.tasks[name]
        answer = self.db.cancel(name)
        if task.state == "waiting":
            task.end("c")
        task.is_cancelled = task.state == "claimed"
        assert answer == NAMES.get(task.state, "cancelling")

    # --- workers ------------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 1), want=st.integers(1, 3))
    def claim(self, which: int, want: int) -> None:
        worker = self.workers[which]
        due = [name for name, task in self.tasks.items() if task.state == "waiting"]
        got = self.db.claim(worker.id, want, session=worker.session)
        assert len(got) == min(want, len(due))
        for run in got:
            task = self.tasks[run.message_id]
            assert (task.state, task.run) == ("waiting", run.run)
            assert (run.message_id, run.run) not in self.claimed
            self.claimed.add((run.message_id, run.run))
            task.state, task.holder = "claimed", worker.id
        worker.runs += got

    @precondition(lambda self: any(worker.runs for worker in self.workers))
    @rule(data=st.data(), letter=st.sampled_from("ssrfi"), again=st.booleans())
    def conclude(self, data: Any, letter: str, again: bool) -> None:
        worker = self.dice(data, [worker for worker in self.workers if worker.runs])
        run = self.dice(data, worker.runs)
        outcome = Outcome(run, letter, {"delay": 0} if letter in "ri" else None, counts=letter != "i")
        for _ in range(1 + again):
            self.db.exchange(worker.id, [outcome], session=worker.session)
        self.happened(run, letter)

    @precondition(lambda self: any(worker.runs for worker in self.workers) or self.zombies)
    @rule(data=st.data(), letter=st.sampled_from("sr"))
    def conclude_late(self, data: Any, letter: str) -> None:
        run = self.dice(data, [run for worker in self.workers for run in worker.runs] + self.zombies)
        if self.tasks[run.message_id].is_cancelled:
            with pytest.raises(psycopg2.Error, match="was cancelled"):
                self.db.conclude(0, run, letter)
            return
        was_first = self.db.conclude(0, run, letter, {"delay": 0} if letter == "r" else None)
        assert was_first == self.happened(run, letter)

    def happened(self, run: Run, letter: str) -> bool:
        task = self.tasks[run.message_id]
        if (task.state, task.run) != ("claimed", run.run):
            return False
        if letter in "ri":
            task.wait_again()
        else:
            task.end("c" if task.is_cancelled else letter)
        return True

    @rule(data=st.data(), which=st.integers(0, 1))
    def resume(self, data: Any, which: int) -> None:
        """Some replies never came: their claims are unknown to the worker."""
        worker = self.workers[which]
        claims = sorted({run.claim for run in worker.runs})
        known = [claim for claim in claims if data.draw(st.booleans())]
        session = self.db.resume(worker.id, known)
        assert session == worker.session + 1
        worker.session = session
        for run in worker.runs:
            if run.claim not in known:
                self.happened(run, "i")

    @rule(which=st.integers(0, 1), polite=st.booleans())
    def lose_worker(self, which: int, polite: bool) -> None:
        worker = self.workers[which]
        if polite:
            self.db.ask("SELECT pipeline.end_worker_v1(%s)", worker.id)
        else:
            self.db.rescue(worker.id, max_losses=MAX_LOSSES)
            self.db.ask("UPDATE pipeline.ready SET eta = least(eta, clock_timestamp())")  # later losses wait
        for run in worker.runs:
            task = self.tasks[run.message_id]
            if (task.state, task.run) != ("claimed", run.run):
                continue
            task.losses += not polite
            if not polite and task.losses >= MAX_LOSSES and not task.is_cancelled:
                task.end("f")
            else:
                task.wait_again()
        with pytest.raises(psycopg2.Error, match="lost its lease"):
            self.db.exchange(worker.id, [Outcome(run) for run in worker.runs], session=worker.session, done=[0])
        self.zombies += worker.runs
        self.workers[which] = Worker(self.db.register())

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        for name, task in self.tasks.items():
            assert self.db.copies(name) == (task.state not in NAMES)
            finals = [outcome for outcome in self.db.outcomes(name) if outcome in NAMES]
            assert finals == task.finals
            assert len(finals) == task.lineages - (task.state not in NAMES)
        waiting = [task for task in self.tasks.values() if task.state == "waiting"]
        assert self.db.waiting() == len(waiting)


@pytest.mark.stress
@pytest.mark.timeout(900)
@pytest.mark.leaves("claim", "worker")
def test_nothing_is_lost_nothing_succeeds_twice_and_a_task_is_in_one_place(db: Session, scale: Scale) -> None:
    """Whatever two workers, senders, operators and rescuers do in whatever order: each enqueue of a task ends in one
    final outcome, a run is claimed once and concluded once, and a task waits, or runs, or is finished."""
    profile = settings(
        max_examples=60 * min(scale.factor, 5),
        stateful_step_count=30,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    run_state_machine_as_test(seed(scale.seed)(lambda: Queue(db)), settings=profile)
