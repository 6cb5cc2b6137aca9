"""What those are told who watch, without a web server around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import pipeline
from api.extensions import attached_to
from api.live import overview as overviews
from api.live.changes import Position
from api.live.live import Live
from api.live.overview import Overview
from api.live.snapshots import Snapshot
from api.live.subscription import Event, Follower, Subscription, Watcher
from pipeline import PostgresBroker
from pipeline.settings import Settings
from pipeline.store import live as statements
from tests.fixtures.broker import working
from tests.fixtures.live_web import Heard, Told
from tests.fixtures.wait import eventually

Rows = Callable[..., list[tuple[Any, ...]]]
Look = Callable[..., list[Told]]


def heard(*events: Event | None) -> list[Told]:
    """Read events as a client does."""
    found = Heard()
    for event in events:
        for block in event.frame.decode().split("\n\n")[:-1] if event else ():
            found.take_in(block)
    return found.events


def taken(client: Subscription) -> list[Told]:
    """Take all that waits for a client."""
    return heard(*iter(lambda: client.take(0), None))


@pytest.fixture
def greet(broker: PostgresBroker) -> Any:
    @pipeline.actor(queue_name="mail", max_retries=0)
    def greet(name: str = "") -> str:
        return f"hello {name}"

    return greet


@pytest.fixture
def follower() -> Follower:
    return Follower()


@pytest.fixture
def look(broker: PostgresBroker, connect: Any, follower: Follower) -> Look:
    """Look once for everybody, as the listener does, and return what the follower was told."""
    overview, cursor = Overview(), connect(autocommit=True).cursor()

    def once(*more: Follower) -> list[Told]:
        followers = [follower, *more]
        wanted = overview.look(broker.sql, cursor, followers)
        rows = statements.tasks(broker.sql, cursor, wanted)
        overview.tell(followers, [Snapshot(row) for row in rows])
        return taken(follower)

    return once


def states(events: list[Told], task_id: str) -> list[str]:
    told = [task for event in events if event.name == "changed" for task in event.data["tasks"]]
    return [task["state"] for task in told if task["task_id"] == task_id]


# --- followers --------------------------------------------------------------------------------------------------------


def test_at_first_a_follower_is_told_what_there_is(look: Look, greet: Any) -> None:
    greet.send()
    (snapshot,) = look()

    (queue,) = [queue for queue in snapshot.data["queues"] if queue["queue"] == "mail"]
    assert snapshot.name == "snapshot"
    assert (queue["queued"], queue["running"], queue["is_capped"], queue["is_paused"]) == (1, 0, False, False)
    assert datetime.fromisoformat(queue["oldest_due"]) < datetime.now(UTC) + timedelta(seconds=5)
    assert snapshot.data["workers"] == dict.fromkeys(("alive", "draining", "stopped", "dead", "threads", "running"), 0)


def test_nothing_is_told_while_nothing_happens(look: Look, greet: Any) -> None:
    greet.send()
    look()
    look()

    assert look() == look() == []


def test_a_new_task_is_told_without_its_arguments(look: Look, greet: Any) -> None:
    look()
    message = greet.send("a secret")
    (changed,) = look()

    (task,) = changed.data["tasks"]
    assert (task["task_id"], task["state"], task["actor"]) == (message.message_id, "queued", "greet")
    assert changed.data["more"] is False
    assert "secret" not in json.dumps(changed.data)
    assert look() == []


def test_a_task_that_ran_between_two_looks_is_told(look: Look, broker: PostgresBroker, greet: Any) -> None:
    look()
    with working(broker):
        task_id = greet.send().message_id
        broker.join("mail", timeout=10_000)

        assert states(look(), task_id) == ["succeeded"]


def test_a_waiting_task_that_was_told_is_told_again_when_it_has_ended(
    look: Look, broker: PostgresBroker, greet: Any
) -> None:
    look()
    task_id = greet.send_with_options(delay=3_600_000).message_id
    assert states(look(), task_id) == ["scheduled"]
    pipeline.retry_now(task_id, who="test")
    with working(broker):
        broker.join("mail", timeout=10_000)

        assert states(look(), task_id)[-1:] == ["succeeded"]


def test_a_task_from_long_ago_that_ran_between_two_looks_makes_clients_look_again(
    look: Look, broker: PostgresBroker, greet: Any, rows: Rows
) -> None:
    greet.send()
    rows("UPDATE pipeline.ready SET eta = eta - interval '1 day'")
    rows("UPDATE pipeline.task SET id = id - ((3600000::bigint) << 22)")
    rows("UPDATE pipeline.ready SET id = id - ((3600000::bigint) << 22)")
    look()
    with working(broker):
        broker.join("mail", timeout=10_000)
        eventually(lambda: not rows("SELECT FROM pipeline.claim"))

        (changed,) = look()
    assert (changed.data["tasks"], changed.data["more"]) == ([], True)


def test_a_task_that_becomes_due_is_told(look: Look, greet: Any, rows: Rows) -> None:
    task_id = greet.send_with_options(delay=3_600_000).message_id
    look()
    assert look() == []

    rows("UPDATE pipeline.ready SET eta = clock_timestamp()")

    assert states(look(), task_id) == ["queued"]


def test_what_an_operator_does_is_told(look: Look, greet: Any, rows: Rows) -> None:
    task_id = greet.send().message_id
    rows("UPDATE pipeline.task SET id = id - ((3600000::bigint) << 22)")  # an hour ago
    rows("UPDATE pipeline.ready SET id = id - ((3600000::bigint) << 22), eta = eta - interval '1 h'")
    look()

    pipeline.cancel(task_id, who="test")

    assert states(look(), task_id) == ["cancelled"]


def test_a_sweep_makes_clients_look_again_once(look: Look, broker: PostgresBroker, greet: Any) -> None:
    for _ in range(3):
        greet.send()
    look()

    broker.flush("mail")

    assert [event.data["more"] for event in look()] == [True]
    assert look() == []


def test_a_paused_queue_is_told(look: Look, greet: Any) -> None:
    greet.send()
    look()
    pipeline.pause_queue("mail", who="test")

    (changed,) = look()
    assert [queue["is_paused"] for queue in changed.data["queues"]] == [True]
    assert "workers" not in changed.data


def test_a_task_that_is_committed_later_than_newer_ones_is_told(
    look: Look, broker: PostgresBroker, greet: Any, connect: Any
) -> None:
    connection = connect()
    with broker.enlist(connection):
        late = greet.send().message_id
    look()
    early = greet.send().message_id
    assert states(look(), early) == ["queued"]

    connection.commit()

    assert states(look(), late) == ["queued"]


def test_of_many_tasks_a_bounded_number_is_told_and_that_there_are_more(
    look: Look, broker: PostgresBroker, greet: Any
) -> None:
    look()
    broker.send_many(greet.message() for _ in range(60))

    (changed,) = look()
    assert (len(changed.data["tasks"]), changed.data["more"]) == (50, True)


def test_what_waits_is_counted_up_to_a_bound(
    look: Look, broker: PostgresBroker, greet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overviews, "_COUNTED", 5)
    broker.send_many(greet.message() for _ in range(9))

    ((queue,),) = (event.data["queues"] for event in look())
    assert (queue["queued"], queue["is_capped"]) == (5, True)


# --- resuming ---------------------------------------------------------------------------------------------------------


def position(events: list[Told]) -> Position:
    found = Position.parse(events[-1].id or "")
    assert found is not None
    return found


def test_who_comes_back_is_told_what_has_changed_meanwhile(look: Look, greet: Any) -> None:
    greet.send()
    seen = position(look())
    task_id = greet.send().message_id
    look()

    back = Follower(seen)
    look(back)

    (changed,) = taken(back)
    assert (changed.name, changed.data["more"]) == ("changed", False)
    assert task_id in [task["task_id"] for task in changed.data["tasks"]]
    assert {"queues", "workers"} <= changed.data.keys()


def test_who_comes_back_to_another_process_is_told_so_too(
    broker: PostgresBroker, look: Look, greet: Any, connect: Any
) -> None:
    seen = position(look())
    task_id = greet.send().message_id

    back, overview, cursor = Follower(seen), Overview(), connect(autocommit=True).cursor()
    rows = statements.tasks(broker.sql, cursor, overview.look(broker.sql, cursor, [back]))
    overview.tell([back], [Snapshot(row) for row in rows])

    assert states(taken(back), task_id) == ["queued"]


def test_who_comes_back_after_runs_have_ended_is_told_to_look_again(
    look: Look, broker: PostgresBroker, greet: Any
) -> None:
    seen = position(look())
    with working(broker):
        greet.send()
        broker.join("mail", timeout=10_000)

    back = Follower(seen)
    look(back)

    assert [event.data["more"] for event in taken(back)] == [True]


@pytest.mark.parametrize("offset", [timedelta(minutes=-6), timedelta(minutes=1)], ids=["long ago", "ahead of time"])
def test_who_comes_back_from_too_far_begins_anew(look: Look, offset: timedelta) -> None:
    back = Follower(Position(datetime.now(UTC) + offset, 0, 0))
    look(back)

    assert [(event.name, event.data.get("reason")) for event in taken(back)] == [
        ("resync", "too old"),
        ("snapshot", None),
    ]


def test_who_has_seen_what_nobody_told_begins_anew(look: Look) -> None:
    back = Follower(None, lost="unknown id")
    look(back)

    assert [event.name for event in taken(back)] == ["resync", "snapshot"]


def test_who_was_too_slow_begins_anew(look: Look, greet: Any, follower: Follower) -> None:
    look()
    follower.begin_anew("slow")

    assert [(event.name, event.data.get("reason")) for event in look()] == [("resync", "slow"), ("snapshot", None)]
    assert look() == []


# --- the listener -----------------------------------------------------------------------------------------------------


@pytest.fixture
def live(settings: Settings, broker: PostgresBroker) -> Iterator[Live]:
    made = Live(settings)
    yield made
    made.close()


SESSIONS = "SELECT count(*)::int FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pipeline live'"


def task_number(rows: Rows, task_id: str) -> int:
    return int(rows("SELECT id FROM pipeline.task WHERE message_id = %s", task_id)[0][0])


def next_event(client: Subscription, within: float = 5) -> Told:
    return heard(eventually(lambda: client.take(0.1), within))[0]


def test_any_number_of_clients_is_one_session_of_the_database(live: Live, rows: Rows, greet: Any) -> None:
    assert rows(SESSIONS) == [(0,)]
    task_id = greet.send().message_id
    clients = [Follower(), Follower(), *(Watcher(task_number(rows, task_id)) for _ in range(6))]
    for client in clients:
        live.join(client)

    assert [next_event(client).name for client in clients] == ["snapshot"] * 2 + ["task"] * 6
    assert rows(SESSIONS) == [(1,)]

    for client in clients:
        live.leave(client)
    eventually(lambda: rows(SESSIONS) == [(0,)])


def test_no_transaction_is_open_between_two_looks(live: Live, rows: Rows) -> None:
    follower = Follower()
    with live.joined(follower):
        next_event(follower)
        state = SESSIONS.replace("count(*)::int", "state")

        eventually(lambda: rows(state) == [("idle",)])


def test_a_watcher_is_told_each_state_of_its_task_and_its_end(
    live: Live, broker: PostgresBroker, rows: Rows, greet: Any
) -> None:
    task_id = greet.send_with_options(delay=3_600_000).message_id
    watcher = Watcher(task_number(rows, task_id))
    with live.joined(watcher), working(broker):
        assert next_event(watcher).data["state"] == "scheduled"
        pipeline.retry_now(task_id, who="test")
        events: list[Event] = []
        eventually(lambda: events.append(event) if (event := watcher.take(0.1)) else events and events[-1].is_last, 10)

    *earlier, last, end = heard(*events)
    assert last.data["state"] == "succeeded"
    assert (end.name, end.data) == ("end", {"state": "succeeded"})
    assert len({event.id for event in (*earlier, last)}) == len(earlier) + 1


def test_a_watcher_that_knows_the_state_is_told_the_next_one(
    live: Live, broker: PostgresBroker, rows: Rows, greet: Any
) -> None:
    message = greet.send()
    first = Watcher(task_number(rows, message.message_id))
    with live.joined(first):
        known = next_event(first).id
    second = Watcher(first.task_id, known)
    with live.joined(second):
        pipeline.cancel(message.message_id, who="test")

        assert next_event(second).data["state"] == "cancelled"


def test_a_watcher_is_told_when_its_task_is_deleted(live: Live, rows: Rows, greet: Any) -> None:
    watcher = Watcher(task_number(rows, greet.send().message_id))
    with live.joined(watcher):
        next_event(watcher)
        rows("DELETE FROM pipeline.ready")
        rows("DELETE FROM pipeline.task")

        end = next_event(watcher)
    assert (end.name, end.data) == ("end", {"state": "gone"})


def test_a_send_is_told_sooner_than_the_next_look_would_be(
    live: Live, greet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.live.listener._IDLE_SECONDS", 60.0)
    greet.send()
    follower = Follower()
    with live.joined(follower):
        next_event(follower)
        task_id = greet.send().message_id

        assert states([next_event(follower, within=10)], task_id) == ["queued"]


def test_a_lost_connection_is_told_and_what_there_is_then_once_more(live: Live, rows: Rows, greet: Any) -> None:
    follower, watcher = Follower(), Watcher(task_number(rows, greet.send().message_id))
    with live.joined(follower), live.joined(watcher):
        assert (next_event(follower).name, next_event(watcher).name) == ("snapshot", "task")
        rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pipeline live' AND datname = current_database()"
        )

        assert [next_event(watcher).name for _ in range(2)] == ["outage", "task"]
        assert [next_event(follower).name for _ in range(3)] == ["outage", "resync", "snapshot"]


# --- the routes -------------------------------------------------------------------------------------------------------


def test_the_stream_of_an_unknown_task_is_a_problem(client: Any, problem: Any) -> None:
    for unknown in ("9f0c2b0e-6d58-4b8e-9c2e-111111111111", "nothing"):
        problem(client.get(f"/api/v1/tasks/{unknown}/events"), 404)


def test_the_headers_keep_proxies_from_holding_events_back(client: Any, rows: Rows) -> None:
    answer = client.get("/api/v1/events", buffered=False)

    assert answer.mimetype == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in answer.headers
    answer.close()
    eventually(lambda: rows(SESSIONS) == [(0,)])


def test_head_takes_no_place_among_those_who_watch(client: Any) -> None:
    for _ in range(20):
        assert client.head("/api/v1/events", buffered=True).status_code == 200


def test_the_end_of_a_task_that_was_seen_keeps_clients_from_coming_back(client: Any, rows: Rows) -> None:
    rows("SELECT pipeline.ensure_lane_v1('mail', 0)")
    task_id = rows("SELECT pipeline.enqueue('greet', queue => 'mail')::text")[0][0]
    rows("SELECT pipeline.flush_v1('mail', 'test')")

    task = Heard()
    for block in client.get(f"/api/v1/tasks/{task_id}/events").text.split("\n\n")[:-1]:
        task.take_in(block)
    state, end = task.events
    assert (state.data["state"], end.name) == ("cancelled", "end")

    again = client.get(f"/api/v1/tasks/{task_id}/events", headers={"Last-Event-ID": state.id or ""})
    assert (again.status_code, again.text) == (204, "")


# --- waiting for a change ---------------------------------------------------------------------------------------------


@pytest.fixture
def waiting_task(client: Any, rows: Rows) -> str:
    rows("SELECT pipeline.ensure_lane_v1('mail', 0)")
    return str(rows("SELECT pipeline.enqueue('greet', queue => 'mail')::text")[0][0])


def test_without_a_change_the_present_state_comes_in_the_end(client: Any, waiting_task: str) -> None:
    answer = client.get(f"/api/tasks/{waiting_task}/status/?wait=1")

    assert (answer.status_code, answer.json["state"]) == (200, "queued")


def test_who_knows_the_state_gets_304_in_the_end(client: Any, waiting_task: str) -> None:
    path = f"/api/tasks/{waiting_task}/status/"
    etag = client.get(path).headers["ETag"]

    assert client.get(f"{path}?wait=1", headers={"If-None-Match": etag}).status_code == 304
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("how", ["header", "since"])
def test_who_knows_an_older_state_is_answered_at_once(client: Any, waiting_task: str, rows: Rows, how: str) -> None:
    path = f"/api/tasks/{waiting_task}/status/"
    etag = client.get(path).headers["ETag"]
    pipeline.pause_queue("mail", who="test")
    rows("UPDATE pipeline.ready SET eta = eta + interval '1 h'")

    known = {"headers": {"If-None-Match": etag}} if how == "header" else {"query_string": {"since": etag.strip('"')}}
    known.setdefault("query_string", {})["wait"] = "30"  # the test has a minute
    answer = client.get(path, **known)

    assert (answer.status_code, answer.json["state"]) == (200, "scheduled")


def test_a_task_that_has_ended_is_answered_at_once(client: Any, waiting_task: str) -> None:
    pipeline.cancel(waiting_task, who="test")

    assert client.get(f"/api/tasks/{waiting_task}/status/?wait=30").json["state"] == "cancelled"


@pytest.mark.parametrize("wait", ["31", "-1", "1.5", "", "x", "٣"])
def test_a_wait_that_makes_no_sense_is_refused(client: Any, problem: Any, waiting_task: str, wait: str) -> None:
    assert "from 0 to 30" in problem(client.get(f"/api/tasks/{waiting_task}/status/?wait={wait}"), 400)["detail"]


def test_beyond_the_bound_nobody_may_wait(client: Any, problem: Any, app: Any, waiting_task: str) -> None:
    live = attached_to(app).live
    live.most = 0

    for path in (f"/api/tasks/{waiting_task}/status/?wait=5", f"/api/v1/tasks/{waiting_task}/events", "/api/v1/events"):
        answer = client.get(path)
        problem(answer, 503)
        assert answer.headers["Retry-After"] == "5"
    assert client.get(f"/api/tasks/{waiting_task}/status/").status_code == 200
