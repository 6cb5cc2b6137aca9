"""Clients that watch through a real gunicorn while real workers work."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.db import embedded
from pipeline.db.migrate import migrate
from pipeline.settings import Settings
from tests.fixtures import live_actors
from tests.fixtures.database import own_database, query
from tests.fixtures.live_web import Stream, Web, ask, begun, join, serving, watching
from tests.fixtures.program import running
from tests.fixtures.scale import IS_LONG
from tests.fixtures.wait import eventually

pytestmark = pytest.mark.timeout(180)

ACTORS = "tests.fixtures.live_actors"
#: Within a second or so, where nothing else keeps the machine busy.
ANSWER_SECONDS = 1.5 if IS_LONG else 10.0
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
LISTENERS = f"{SESSIONS} AND application_name = 'pipeline live'"

Send = Callable[..., str]


@pytest.fixture
def send(database_url: str) -> Iterator[Send]:
    """Send an actor of ours to the test's database and return the task's id."""
    with closing(PostgresBroker(settings=Settings(database_url=database_url))) as broker:
        for queue in ("staged", "quick"):
            broker.declare_queue(queue)
        yield lambda actor, *arguments: str(broker.enqueue(actor.message(*arguments)).message_id)


@pytest.fixture
def worker(database_url: str, tmp_path: Path) -> Iterator[None]:
    """``pipeline worker`` with our actors."""
    with running(tmp_path, "worker", "-p", "1", "-t", "4", ACTORS, database_url=database_url) as program:
        yield
        program.signal(signal.SIGTERM)
        program.end()


@pytest.fixture
def web(database_url: str, tmp_path: Path) -> Iterator[Web]:
    with serving(database_url, tmp_path) as server:
        yield server


def test_a_task_is_watched_to_its_end_over_lost_connections_and_a_new_web_process(
    web: Web, worker: None, send: Send, database_url: str, tmp_path: Path
) -> None:
    task_id = send(live_actors.pass_stages, str(tmp_path))
    own, everything = f"{web.address}/api/v1/tasks/{task_id}/events", f"{web.address}/api/v1/events"

    # Progress is seen live, by as many as like, through one session of the database.
    with watching(own) as stream, watching(own), watching(everything) as all_of_it:
        eventually(lambda: stream.has_told(task_id, state="running", step="reading", progress=33), within=30)
        assert begun(all_of_it).name == "snapshot"
        assert query(database_url, LISTENERS) == 1

        # The network fails. What happens meanwhile is told to who comes back.
        seen, seen_of_all = stream.last_id, all_of_it.last_id
        stream.cut()
        all_of_it.cut()
    (tmp_path / "reading").touch()
    eventually(lambda: status(web, task_id)["step"] == "posting", within=10)
    with watching(own, seen) as stream, watching(everything, seen_of_all) as all_of_it:
        assert begun(stream).data["step"] == "posting"
        assert begun(all_of_it).name == "changed"
        eventually(lambda: all_of_it.has_told(task_id, step="posting"))

        # Stopping waits for no stream; it ends them.
        began = time.monotonic()
        web.stop()
        assert time.monotonic() - began < 15  # it would wait for 30 seconds
        eventually(lambda: stream.has_ended.is_set() and all_of_it.has_ended.is_set())
        seen, seen_of_all = stream.last_id, all_of_it.last_id
    assert "rror" not in web.output

    # Another process goes on where the one before has ended.
    (tmp_path / "posting").touch()
    eventually(
        lambda: (
            query(database_url, "SELECT step FROM pipeline.task_status WHERE task_id = %s", (task_id,)) == "closing"
        ),
        within=10,
    )
    web.start()
    with watching(own, seen) as stream, watching(everything, seen_of_all) as all_of_it:
        assert begun(stream).data["step"] == "closing"
        assert begun(all_of_it).name == "changed"
        eventually(lambda: all_of_it.has_told(task_id, step="closing"))

        # Whoever waits for a change is answered with it.
        waiting = Waiting(f"{web.address}/api/tasks/{task_id}/status/?wait=30")
        eventually(lambda: query(database_url, LISTENERS) == 1)
        (tmp_path / "closing").touch()
        eventually(lambda: query(database_url, "SELECT count(*) FROM pipeline.attempt") == 1)
        assert waiting.answered_within(ANSWER_SECONDS)["state"] == "succeeded"

        eventually(stream.has_ended.is_set)
        assert [event.data for event in stream.named("end")] == [{"state": "succeeded"}]
        assert stream.named("task")[-1].data["state"] == "succeeded"
        eventually(lambda: all_of_it.has_told(task_id, state="succeeded"))
        assert ask(own, **{"Last-Event-ID": stream.last_id or ""})[0] == 204
    eventually(lambda: query(database_url, LISTENERS) == 0)


def status(web: Web, task_id: str) -> Any:
    return ask(f"{web.address}/api/tasks/{task_id}/status/")[2]


class Waiting:
    """A request that is answered later; sent again, as clients do, if it is told to come back."""

    def __init__(self, address: str) -> None:
        self._answer: Any = None
        self._thread = threading.Thread(target=self._ask, args=(address,), daemon=True)
        self._thread.start()

    def _ask(self, address: str) -> None:
        status, _, self._answer = ask(address)
        while status == 503:
            threading.Event().wait(0.5)
            status, _, self._answer = ask(address)

    def answered_within(self, seconds: float) -> Any:
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self._answer


@pytest.fixture(scope="module")
def shared(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web server whose streams are few, for tests that need no worker."""
    with own_database(server_url, template=template) as url:
        query(url, "SELECT pipeline.ensure_lane_v1('quick', 0)::text")
        with serving(url, tmp_path_factory.mktemp("web"), threads=6) as web:
            web.url = url
            yield web


def test_beyond_the_bound_clients_are_told_when_to_come_back(shared: Web) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.callback(join(f"{shared.address}/api/v1/events").close)

        code, headers, problem = ask(f"{shared.address}/api/v1/events")

        assert (code, headers["Content-Type"], headers["Retry-After"]) == (503, "application/problem+json", "5")
        assert "3 clients" in problem["detail"]
        assert ask(f"{shared.address}/api/tasks/")[0] == 200  # half of the threads are there for it


@pytest.mark.parametrize("how", ["cut", "close"])
def test_a_client_that_has_gone_makes_room_at_once(shared: Web, how: str) -> None:
    streams = [join(f"{shared.address}/api/v1/events") for _ in range(3)]
    for stream in streams:
        begun(stream)
        getattr(stream, how)()

    began = time.monotonic()
    join(f"{shared.address}/api/v1/events").close()

    assert time.monotonic() - began < 8  # sooner than a heartbeat would show it


def test_a_stream_that_is_cut_off_leaves_no_session_behind(shared: Web) -> None:
    for _ in range(5):
        stream = Stream(f"{shared.address}/api/v1/events")
        stream.cut()

    eventually(lambda: query(shared.url, LISTENERS) == 0, within=10)


def test_streams_outlive_the_database(tmp_path: Path) -> None:
    home = tmp_path / "postgres"
    database = embedded.start(home)
    migrate(database.url)
    query(database.url, "SELECT pipeline.ensure_lane_v1('quick', 0)::text")
    task_id = query(database.url, "SELECT pipeline.enqueue('pass_by', queue => 'quick')::text")
    with (
        serving(database.url, tmp_path) as web,
        watching(f"{web.address}/api/v1/events") as everything,
        watching(f"{web.address}/api/v1/tasks/{task_id}/events") as own,
    ):
        begun(everything)
        begun(own)
        waiting = Waiting(f"{web.address}/api/tasks/{task_id}/status/?wait=30")

        database.stop()
        eventually(lambda: everything.named("outage") and own.named("outage"), within=20)
        with embedded.start(home) as again:
            eventually(lambda: len(everything.named("snapshot")) == 2 and len(own.named("task")) == 2, within=20)
            assert [event.data["reason"] for event in everything.named("resync")] == ["outage"]

            query(again.url, "SELECT pipeline.flush_v1('quick', 'test')")
            eventually(lambda: own.has_told(str(task_id), state="cancelled"))
            assert waiting.answered_within(10)["state"] == "cancelled"
        web.stop()
        assert "Traceback" not in web.output
