"""Database sessions that a test moves step by step: each is a worker, a sender or an operator of the race."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from tests.fixtures.wait import eventually

Row = tuple[Any, ...]


class Run(NamedTuple):
    """One claimed run, as ``exchange_v1`` returns it."""

    claim: int
    id: int
    run: int
    attempt: int
    lane: int
    eta: float
    message_id: str
    actor: str
    payload: Any
    patch: Any
    is_gated: bool
    losses: int


class Outcome(NamedTuple):
    """How a run ended, and what follows from it (``extra`` as ``conclude_runs`` reads it; text is passed as it is)."""

    run: Run
    letter: str = "s"
    extra: dict[str, Any] | str | None = None
    counts: bool = True

    @property
    def attempt(self) -> int:
        return self.run.attempt - (not self.counts)

    @property
    def text(self) -> str:
        return self.extra if isinstance(self.extra, str) else json.dumps(self.extra)


def retry(run: Run, delay_ms: int = 0) -> Outcome:
    return Outcome(run, "r", {"delay": delay_ms, "patch": {"retries": run.attempt}})


def interrupted(run: Run) -> Outcome:
    return Outcome(run, "i", {"delay": 0}, counts=False)


def new_id() -> str:
    return str(uuid4())


def message(actor: str = "noop", message_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A message as ``enqueue_many_v1`` reads it."""
    payload = {"args": [], "kwargs": {}, "options": {}, "message_timestamp": 0}
    return {"m": message_id or new_id(), "q": "default", "p": 0, "a": actor, "d": None, "b": payload} | more


@dataclass
class Session:
    """One database session. Its methods call the functions of the store as a worker, a sender or an operator does."""

    connection: Connection
    executor: ThreadPoolExecutor
    pid: int = field(init=False)

    def __post_init__(self) -> None:
        self.pid = self.connection.info.backend_pid

    def ask(self, question: str, *parameters: Any) -> list[Row]:
        with self.connection.cursor() as cursor:
            cursor.execute(question, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, question: str, *parameters: Any) -> Any:
        return self.ask(question, *parameters)[0][0]

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()

    def start(self, what: Callable[..., Any], *arguments: Any, **named: Any) -> Future[Any]:
        """Begin something in a thread of its own, which may have to wait for another session."""
        return self.executor.submit(what, *arguments, **named)

    # --- sender -----------------------------------------------------------------------------------------------------

    def enqueue(
        self, message_id: str | None = None, *, mode: str = "u", since_ms: float | None = None, **more: Any
    ) -> str:
        m = message(message_id=message_id, **more)
        self.ask(
            "SELECT pipeline.enqueue_v1(%s, %s, %s, %s, %s, %s, %s, %s, false, p_keys => %s, p_labels => %s)",
            *(m["m"], m["q"], m["p"], m["a"], m["d"], json.dumps(m["b"]), mode, since_ms),
            *(json.dumps(m[name]) if m.get(name) is not None else None for name in ("k", "l")),
        )
        return str(m["m"])

    def enqueue_many(self, messages: list[dict[str, Any]], mode: str = "u", since_ms: float | None = None) -> int:
        call = "SELECT added FROM pipeline.enqueue_many_v1(%s, %s, %s, false)"
        return int(self.value(call, json.dumps(messages), mode, since_ms))

    def lane(self, queue: str = "default", priority: int = 0, *, is_gated: bool = False) -> int:
        return int(self.value("SELECT pipeline.ensure_lane_v1(%s, %s, %s)", queue, priority, is_gated))

    # --- worker -----------------------------------------------------------------------------------------------------

    def register(self, host: str = "here") -> int:
        backends = "ARRAY[pipeline.backend_v1()]"
        return int(self.value(f"SELECT pipeline.register_worker_v1(%s, 1, 4, '{{default}}', {backends})", host))

    def exchange(
        self,
        worker: int,
        outcomes: Iterable[Outcome] = (),
        *,
        session: int = 1,
        want: int = 0,
        done: Iterable[int] = (),
        queues: Iterable[str] = ("default",),
        floors: dict[int, float] | None = None,
        turn: int | None = None,
    ) -> list[Run]:
        """Write outcomes and claim; return what was claimed."""
        outcomes = list(outcomes)
        rows = self.ask(
            'SELECT * FROM pipeline.exchange_v1(%s, %s, %s::bigint[], %s::int[], %s::"char"[], %s::int[], %s::int[],'
            " %s::float8[], %s::float8[], %s::float8[], %s::json, true, %s::bigint[], %s::text[], %s,"
            " %s::int[], %s::float8[], %s)",
            *(worker, session, [o.run.id for o in outcomes], [o.run.run for o in outcomes]),
            *([o.letter for o in outcomes], [o.attempt for o in outcomes], [o.run.lane for o in outcomes]),
            *([1.0 for _ in outcomes], [0.0 for _ in outcomes], [None for _ in outcomes]),
            "[" + ",".join(o.text for o in outcomes) + "]" if outcomes else None,
            *(list(done), list(queues), want),
            *((list(floors), list(floors.values())) if floors else (None, None)),
            turn,
        )
        return sorted((Run(*row) for row in rows[1:]), key=lambda run: (run.lane, run.eta, run.id))

    def claim(self, worker: int, want: int = 1, **more: Any) -> list[Run]:
        return self.exchange(worker, want=want, **more)

    def conclude(self, worker: int, run: Run, letter: str = "s", extra: dict[str, Any] | None = None) -> bool:
        """Write the fence row of a transactional actor, in this session's transaction; False if somebody else did."""
        call = "SELECT pipeline.seal_v1(%s, %s, %s, %s, %s, %s, 0, NULL, %s)"
        text = None if extra is None else json.dumps(extra)
        try:
            self.value(call, worker, run.id, run.run, letter, run.attempt, run.lane, text)
        except psycopg2.Error as error:
            if error.pgcode != "PQ005":
                raise
            return False
        return True

    def beat(self, worker: int) -> bool:
        return self.value("SELECT pipeline.beat_v1(%s, '{}', '{}', '{default}')", worker) is not None

    def resume(self, worker: int, known: Iterable[int] = ()) -> int | None:
        call = "SELECT pipeline.resume_v1(%s, %s::bigint[], pipeline.backend_v1())"
        return self.value(call, worker, list(known))  # type: ignore[no-any-return]

    def rescue(
        self, worker: int, *, beat: int | None = None, max_losses: int = 3, started: list[int] | None = None
    ) -> int | None:
        if beat is None:
            beat = self.value("SELECT coalesce((SELECT beat FROM pipeline.worker WHERE worker_id = %s), -1)", worker)
        call = "SELECT pipeline.rescue_v1(%s, %s, %s, %s::bigint[])"
        return self.value(call, worker, beat, max_losses, started)  # type: ignore[no-any-return]

    # --- operator ---------------------------------------------------------------------------------------------------

    def cancel(self, message_id: str) -> str | None:
        return self.value("SELECT pipeline.cancel_v1(%s, 'test', 'why not')", message_id)  # type: ignore[no-any-return]

    def force(self, message_id: str, after_ms: int | None) -> str | None:
        return self.value("SELECT pipeline.cancel_v1(%s, 'test', 'now', %s)", message_id, after_ms)  # type: ignore[no-any-return]

    def cancel_many(self, message_ids: list[str]) -> list[str | None]:
        call = "SELECT state FROM pipeline.cancel_many_v1(%s::uuid[], 'test', 'why not', NULL)"
        return [state for (state,) in self.ask(call, message_ids)]

    # --- what a test looks at ----------------------------------------------------------------------------------------

    def outcomes(self, message_id: str | None = None) -> list[str]:
        """The outcomes of a task's runs (of all tasks without an id), oldest first."""
        return [
            outcome
            for (outcome,) in self.ask(
                "SELECT outcome FROM pipeline.attempt WHERE %s::uuid IS NULL OR task_id = pipeline.find_task_v1(%s)"
                " ORDER BY task_id, run",
                *(message_id, message_id),
            )
        ]

    def copies(self, message_id: str) -> int:
        """How often a task is alive: waiting, or claimed and not concluded."""
        return int(
            self.value(
                "SELECT (SELECT count(*) FROM pipeline.ready WHERE id = t.id)"
                " + (SELECT count(*) FROM pipeline.claim c, unnest(c.ids, c.runs) u(id, run) WHERE u.id = t.id AND NOT"
                "    EXISTS (SELECT FROM pipeline.attempt a WHERE a.task_id = u.id AND a.run = u.run))"
                " FROM (SELECT pipeline.find_task_v1(%s) AS id) t",
                message_id,
            )
        )

    def requests(self) -> list[Row]:
        """Who was asked to end, and when to kill it."""
        return self.ask("SELECT message_id::text, kill_at FROM pipeline.cancel_request ORDER BY requested_at")

    def waiting(self) -> int:
        return int(self.value("SELECT count(*) FROM pipeline.ready"))


def waits_for_a_lock(watch: Session, who: Session) -> None:
    """Return once a session is held up by another one: the barrier between two steps of a race."""
    eventually(lambda: watch.ask("SELECT pid FROM pg_locks WHERE pid = %s AND NOT granted", who.pid))


def sqlstate(error: BaseException | None) -> str | None:
    return error.pgcode if isinstance(error, psycopg2.Error) else None
