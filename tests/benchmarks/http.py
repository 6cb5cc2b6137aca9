"""How quickly the REST API answers: ``./dev bench http``.

A month of finished tasks and many that wait, behind the web server as it is deployed: each list with each of its filters, again and
again over one connection; and what the live views ask once a second.
"""

from __future__ import annotations

import json
import statistics
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import click
import psycopg2

from api.live.overview import Overview
from api.live.subscription import Follower
from pipeline.db.statements import load
from tests.benchmarks import history
from tests.benchmarks.measure import Side
from tests.benchmarks.outcome import Outcome, options, server, tell
from tests.fixtures.tokens import bearer, make_token
from tests.fixtures.wait import eventually
from tests.fixtures.web import Web, serving

_ASKED, _ASKED_QUICKLY = 40, 3
_LIST_MS, _LOOK_MS = 50.0, 20.0
_STATES = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled", "skipped")
_LONG_AGO = "2020-01-01T00:00:00Z"

#: Asked for with ``{id}`` of some task; with ``{cursor}`` where the same question without it goes on.
PATHS = [
    "/livez",
    "/api/v1/session",
    "/api/v1/tasks/{id}",
    "/api/v1/tasks/{id}/timeline",
    "/api/tasks/",
    "/api/tasks/{id}/status/",
    "/api/v1/tasks",
    "/api/v1/tasks?cursor={cursor}",
    "/api/v1/tasks?limit=200",
    "/api/v1/tasks?include=args,kwargs,result",
    "/api/v1/tasks?fields=task_id,state",
    *(f"/api/v1/tasks?state={state}" for state in _STATES),
    "/api/v1/tasks?state=failed&cursor={cursor}",
    "/api/v1/tasks?actor=actor_7",
    "/api/v1/tasks?actor=rare_actor",
    "/api/v1/tasks?actor=nobody",
    "/api/v1/tasks?state=failed&actor=actor_7",
    "/api/v1/tasks?state=failed&actor=rare_actor",
    "/api/v1/tasks?queue=queue_2",
    "/api/v1/tasks?queue=rare_queue",
    "/api/v1/tasks?tag=import",
    "/api/v1/tasks?tag=rare",
    "/api/v1/tasks?entity=invoice:4711",
    "/api/v1/tasks?tenant=tenant_7",
    "/api/v1/tasks?tenant=tenant_7&state=failed",
    "/api/v1/tasks?worker=1",
    "/api/v1/tasks?worker=77",
    "/api/v1/tasks?error_type=ValueError",
    "/api/v1/tasks?error_type=KeyError",
    "/api/v1/tasks?text=nothing%20has%20this",
    "/api/v1/tasks?tag=import&text=no%2097",
    f"/api/v1/tasks?created_to={_LONG_AGO}",
    f"/api/v1/tasks?finished_to={_LONG_AGO}",
    "/api/v1/queues",
    "/api/v1/workers",
    "/api/v1/actors",
    "/api/v1/gates",
    "/api/v1/schedules",
    "/api/v1/audit",
    "/api/v1/stats",
    "/api/v1/stats/failures",
]
#: The count has a time of its own besides: 200 ms.
COUNTED = "/api/v1/tasks?state=succeeded&count=capped"


@click.command()
@options
@click.option("--finished", type=int, help="Finished tasks (10 million; quick: 100 thousand).")
@click.option("--waiting", type=int, help="Waiting tasks (1 million; quick: 20 thousand).")
def main(
    *,
    quick: bool,
    finished: int | None,
    waiting: int | None,
    json_file: Path | None,
    markdown: Path | None,
    directory: Path,
) -> None:
    """Time the answers of the REST API beside a large history, on a server of this run's own."""
    finished, waiting = finished or (100_000 if quick else 10_000_000), waiting or (20_000 if quick else 1_000_000)
    times = _ASKED_QUICKLY if quick else _ASKED
    outcome = Outcome("REST API", {"finished": f"{finished:,}", "waiting": f"{waiting:,}"})
    outcome.head = ["question", "p50 ms", "p95 ms", "bytes"]
    with server(directory, outcome) as started:
        side = Side("ours", started.url)
        with side.database():
            history.fill(side.url, finished, waiting, tell)
            with serving(side.url, started.data_dir.parent, token=make_token(side.url)) as web:
                ask_all(web, outcome, some_task(side.url), times)
            look_again_and_again(side.url, outcome, times)
    outcome.show()
    outcome.write(json_file, markdown)


def some_task(url: str) -> str:
    """Name a task from the middle of the history."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT message_id FROM pipeline.task WHERE id >= (SELECT (min(id) + max(id)) / 2 FROM pipeline.task)"
            " ORDER BY id LIMIT 1"
        )
        ((message_id,),) = cursor.fetchall()
        return str(message_id)


class Asker:
    """A client with one connection."""

    def __init__(self, web: Web) -> None:
        self._connection = HTTPConnection(urlsplit(web.address).netloc, timeout=60)
        self._headers = bearer(web.token)

    def ask(self, path: str) -> tuple[float, bytes]:
        """Ask once; return the milliseconds, and the answer, which must be a good one."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        took = 1000 * (time.perf_counter() - began)
        assert answer.status == 200, f"{path}: {answer.status} {body[:200]!r}"
        return took, body

    def close(self) -> None:
        self._connection.close()


def ask_all(web: Web, outcome: Outcome, task_id: str, times: int) -> None:
    """Ask each question many times; each list in time."""
    with closing(Asker(web)) as asker:
        eventually(lambda: web.ask("/readyz")[0] == 200, within=60)
        for path in (*PATHS, COUNTED):
            asked = path.replace("{id}", task_id)
            if "{cursor}" in asked:
                first = json.loads(asker.ask(asked.replace("cursor={cursor}", "").rstrip("?&"))[1])
                asked = asked.replace("{cursor}", first["next_cursor"])
            body = asker.ask(asked)[1]
            took = sorted(asker.ask(asked)[0] for _ in range(times))
            p50, p95 = statistics.median(took), took[int(0.95 * len(took))]
            outcome.rows.append([path, f"{p50:.2f}", f"{p95:.2f}", f"{len(body):,}"])
            outcome.runs[path] = took
            if path != COUNTED:
                outcome.at_most(f"{path}, p95", _LIST_MS, p95, " ms")
            tell(f"{path}: p50 {p50:.2f} ms, p95 {p95:.2f} ms, {len(body):,} bytes")


def look_again_and_again(url: str, outcome: Outcome, times: int) -> None:
    """Do what the thread of the live views does once a second."""
    sql, overview, took = load("pipeline"), Overview(), []
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for _ in range(times + 1):
            began = time.perf_counter()
            overview.look(sql, cursor, [Follower()])
            took.append(1000 * (time.perf_counter() - began))
    took = sorted(took[1:])  # the first one plans
    p50, p95 = statistics.median(took), took[int(0.95 * len(took))]
    outcome.rows.append(["a look of the live views", f"{p50:.2f}", f"{p95:.2f}", ""])
    outcome.runs["look"] = took
    outcome.at_most("a look of the live views, p95", _LOOK_MS, p95, " ms")
    tell(f"a look of the live views: p50 {p50:.2f} ms, p95 {p95:.2f} ms")


if __name__ == "__main__":
    main()
