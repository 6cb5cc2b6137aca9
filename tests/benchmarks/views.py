"""How quickly people get an answer: ``./dev bench views``.

A month of finished tasks, many that wait and some that run; then each question that people ask of the views, again and again,
with its plan. Then the same beside workers at full rate, while an open transaction keeps every dead row.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg2

from tests.benchmarks import history, measure, pins
from tests.benchmarks.masters import masters
from tests.benchmarks.measure import Side
from tests.benchmarks.outcome import Outcome, options, server, tell

_ASKED = 30
_BY_ID_MS, _LIST_MS, _SEARCH_MS = 1.0, 20.0, 50.0
_SLOWER = 2.0
#: How often questions are asked while workers work, and of what length the drains are that keep them busy.
_LOOK_SECONDS = 5.0
_PORTION = 20_000


@dataclass(frozen=True)
class Question:
    """One thing that people ask, and within how many milliseconds they shall have the answer; None: no promise."""

    what: str
    statement: str
    within_ms: float | None = _LIST_MS


def _found(**filters: str) -> str:
    given = ", ".join(f"{name} => {value}" for name, value in filters.items())
    return f"SELECT * FROM pipeline.tasks_v1(ARRAY(SELECT pipeline.find_tasks({given})))"


def _searched(**filters: str) -> str:
    """As the REST API asks: what no index finds is looked for as long as there is time."""
    given = ", ".join(f"{name} => {value}" for name, value in filters.items())
    found = f"pipeline.search_tasks_v1({given}, most => 51, within_ms => 30)"
    return f"SELECT f.searched_to, s.* FROM {found} f LEFT JOIN LATERAL pipeline.list_tasks_v1(f.ids, '{{}}') s ON true"


#: ``:id`` stands for the message id of some task.
QUESTIONS = [
    Question("by task_id, planned each time", "SELECT * FROM pipeline.task_status WHERE task_id = :id", None),
    Question("by id, planned once", "SELECT * FROM pipeline.tasks_v1(ARRAY[pipeline.find_task_v1(:id)])", _BY_ID_MS),
    Question(
        "attempts of one, planned each time",
        "SELECT * FROM pipeline.attempt_history WHERE id = pipeline.find_task_v1(:id)",
        None,
    ),
    Question("timeline of one", "SELECT * FROM pipeline.timeline_v1(pipeline.find_task_v1(:id))", _BY_ID_MS),
    Question("newest", _found()),
    *(
        Question(f"newest {state}", _found(states=f"'{{{state}}}'"))
        for state in ("scheduled", "queued", "running", "succeeded", "failed", "cancelled", "skipped")
    ),
    Question("newest that wait or run", _found(states="'{scheduled,queued,running}'")),
    Question("newest of an actor", _found(actor="'actor_7'")),
    Question("newest of a rare actor", _found(actor="'rare_actor'")),
    Question("newest of a queue", _found(queue="'queue_2'")),
    Question("newest of a rare queue", _found(queue="'rare_queue'")),
    Question("newest of a tag", _found(tag="'import'")),
    Question("newest of a rare tag", _found(tag="'rare'")),
    Question("newest of an entity", _found(entity="'invoice:4711'")),
    Question("newest of a tenant", _found(tenant="'tenant_7'")),
    Question("newest of a correlation id", _found(correlation_id="'rare'")),
    Question("newest failed of an actor", _found(states="'{failed}'", actor="'actor_7'"), None),
    Question("newest failed of a rare actor", _found(states="'{failed}'", actor="'rare_actor'")),
    Question("newest scheduled of an actor", _found(states="'{scheduled}'", actor="'actor_6'"), None),
    Question("searched: a text that none has", _searched(words="'nothing has this'"), _SEARCH_MS),
    Question("searched: a worker that ran none", _searched(worker="77"), _SEARCH_MS),
    Question("searched: an error that none has", _searched(error_type="'KeyError'"), _SEARCH_MS),
    Question("searched: a text among those of a tag", _searched(tag="'import'", words="'no 97'"), _SEARCH_MS),
    Question("searched: ended long ago", _searched(finished_to="now() - interval '20 days'"), _SEARCH_MS),
    Question("an entity, by the view alone", "SELECT * FROM pipeline.task_status WHERE entity = 'invoice:4711'"),
    Question(
        "a tenant's newest, by the view alone",
        "SELECT * FROM pipeline.task_status WHERE tenant = 'tenant_7' ORDER BY id DESC LIMIT 50",
        None,
    ),
    Question("queues", "SELECT * FROM pipeline.queue_status", None),
    Question("workers", "SELECT * FROM pipeline.worker_status", None),
]
#: What is asked while workers work.
_WATCHED = ["by id, planned once", "newest that wait or run", "newest failed", "newest of an actor", "newest of a tag"]


@click.command()
@options
@click.option("--finished", type=int, help="Finished tasks (10 million; quick: 100 thousand).")
@click.option("--waiting", type=int, help="Waiting tasks (1 million; quick: 20 thousand).")
@click.option(
    "--minutes", type=float, help="How long workers work under a pinned horizon (10; quick: 0.2; 0: not at all)."
)
@click.option("--plans", is_flag=True, help="Print each plan; they always stand in the JSON.")
def main(
    *,
    quick: bool,
    finished: int | None,
    waiting: int | None,
    minutes: float | None,
    plans: bool,
    json_file: Path | None,
    markdown: Path | None,
    directory: Path,
) -> None:
    """Time the questions that people ask of the views, on a server of this run's own."""
    finished, waiting = finished or (100_000 if quick else 10_000_000), waiting or (20_000 if quick else 1_000_000)
    minutes = (0.2 if quick else 10.0) if minutes is None else minutes
    outcome = Outcome("Views", {"finished": f"{finished:,}", "waiting": f"{waiting:,}"})
    outcome.head = ["question", "p50 ms", "p95 ms", "at most", "pages", "rows read in sequence"]
    with server(directory, outcome) as started:
        side = Side("ours", started.url)
        with side.database():
            history.fill(side.url, finished, waiting, tell)
            ask_all(side.url, outcome, plans=plans)
            if minutes:
                with tempfile.TemporaryDirectory(dir=directory) as home:
                    work(side, outcome, minutes, Path(home))
    outcome.show()
    outcome.write(json_file, markdown)


def ask_all(url: str, outcome: Outcome, *, plans: bool) -> None:
    """Ask each question many times, and once for its plan."""
    with asking(url) as asker:
        for question in QUESTIONS:
            asker.ask(question)  # so that its pages are there, and its functions are planned
            times = sorted(asker.ask(question) for _ in range(_ASKED))
            plan, pages, rows = asker.explain(question)
            p50, p95 = statistics.median(times), times[int(0.95 * len(times))]
            bound = "" if question.within_ms is None else f"{question.within_ms:g}"
            outcome.rows.append([question.what, f"{p50:.2f}", f"{p95:.2f}", bound, f"{pages:,}", f"{rows:,}"])
            outcome.runs[question.what] = {"ms": times, "plan": plan}
            if question.within_ms is not None:
                outcome.at_most(f"{question.what}, p95", question.within_ms, p95, " ms")
            tell(f"{question.what}: p50 {p50:.2f} ms, p95 {p95:.2f} ms" + (f"\n{plan}" if plans else ""))


class Asker:
    """A session that asks."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._numbers = iter(range(0, 1_000_000_000, 7_919))
        with connection.cursor() as cursor:
            cursor.execute("SELECT min(id), max(id) FROM pipeline.task")
            self._first, self._last = cursor.fetchone()

    def ask(self, question: Question) -> float:
        """Ask once, about another task each time; return the milliseconds."""
        statement = self._about_some_task(question.statement)
        with self._connection.cursor() as cursor:
            began = time.perf_counter()
            cursor.execute(statement)
            cursor.fetchall()
            return 1_000 * (time.perf_counter() - began)

    def explain(self, question: Question) -> tuple[str, int, int]:
        """Return the plan, how many pages it touched, and how many rows were read by sequential scans of large tables."""
        statement = self._about_some_task(question.statement)
        with self._connection.cursor() as cursor:
            before = self._read_in_sequence(cursor)
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
            ((document,),) = cursor.fetchall()
            rows = self._read_in_sequence(cursor) - before
            cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {statement}")
            text = "\n".join(line for (line,) in cursor.fetchall())
        top = (document if isinstance(document, list) else json.loads(document))[0]["Plan"]
        return text, top["Shared Hit Blocks"] + top["Shared Read Blocks"], rows

    def _about_some_task(self, statement: str) -> str:
        if ":id" not in statement:
            return statement
        part = next(self._numbers) % 997 / 997
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT message_id FROM pipeline.task WHERE id >= %s ORDER BY id LIMIT 1",
                (int(self._first + part * (self._last - self._first)),),
            )
            (message_id,) = cursor.fetchone()
        return statement.replace(":id", f"'{message_id}'")

    def _read_in_sequence(self, cursor: Any) -> int:
        cursor.execute("SELECT pg_stat_force_next_flush()" if self._connection.server_version >= 150000 else "SELECT 1")
        cursor.execute(
            "SELECT coalesce(sum(seq_tup_read), 0)::bigint FROM pg_stat_user_tables"
            " WHERE schemaname = 'pipeline' AND relname ~ '^(task|attempt|ready)'"
        )
        ((count,),) = cursor.fetchall()
        return int(count)


@contextmanager
def asking(url: str) -> Iterator[Asker]:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        yield Asker(connection)


def work(side: Side, outcome: Outcome, minutes: float, home: Path) -> None:
    """Let workers work at full rate for so long under a pinned horizon, and compare the answers at the end with the first."""
    watched = [question for question in QUESTIONS if question.what in _WATCHED]
    measure.execute(side.url, "UPDATE pipeline.queue SET paused_at = now()")  # what waits there shall go on waiting
    with masters(side.url, measure.PROCESSES, measure.THREADS, home) as running, _fed(side.url, running.done) as done:
        first = _looks(side.url, watched, 3)
        with pins.snapshot(side.url):
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until:
                last = _looks(side.url, watched, 3)
                tell(f"{done():,} tasks done; " + ", ".join(f"{what} {ms:.2f} ms" for what, ms in last.items()))
    outcome.about["tasks done under the pinned horizon"] = f"{done():,}"
    for what in first:
        outcome.runs[f"{what}, beside workers"] = {"first_ms": first[what], "last_ms": last[what]}
        slower = last[what] / first[what]
        outcome.at_most(f"{what}, after {minutes:g} minutes of work under a pinned horizon", _SLOWER, slower, " ×")


def _looks(url: str, questions: list[Question], times: int) -> dict[str, float]:
    """Ask each question in several rounds, some seconds apart; return the median of each."""
    found: dict[str, list[float]] = {question.what: [] for question in questions}
    with asking(url) as asker:
        for _ in range(times):
            for question in questions:
                found[question.what] += [asker.ask(question) for _ in range(5)]
            threading.Event().wait(_LOOK_SECONDS)
    return {what: statistics.median(values) for what, values in found.items()}


@contextmanager
def _fed(url: str, done: Callable[[], int]) -> Iterator[Callable[[], int]]:
    """Keep workers busy for a block: there are always some tasks that wait."""
    is_over, began = threading.Event(), done()

    def feed() -> None:
        sent = 0
        while not is_over.wait(0.05):
            if sent - (done() - began) < _PORTION:
                measure.insert_backlog(url, _PORTION, "waiting")
                sent += _PORTION

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield lambda: done() - began
    finally:
        is_over.set()
        feeder.join()


if __name__ == "__main__":
    main()
