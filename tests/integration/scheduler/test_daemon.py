"""What a daemon does about schedules that change, that cannot be fired, and clocks that jump."""

from __future__ import annotations

import datetime as real
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import apscheduler.schedulers.base
import pytest

from pipeline.store import schedules as store
from scheduler import daemon as module
from scheduler import database_clock, failures, timers
from tests.fixtures.logs import captured_logs
from tests.fixtures.schedules import ME, Schedules, due
from tests.fixtures.wait import eventually

Start = Callable[[], module.Daemon]

LONG_AGO = "2026-01-01T00:00:00Z"


def test_it_fires_each_instant_and_signs_it(schedules: Schedules, start: Start) -> None:
    row = schedules.put("tick", args=[1], tags=["nightly"])
    start()

    schedules.go_on("tick", seconds=2)

    firings = schedules.firings("tick")
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    assert all(timedelta(0) <= firing.fired_at - firing.due_at < timedelta(seconds=1) for firing in firings[1:])
    assert schedules.rows("SELECT DISTINCT actor, queue, args::text, tags FROM pipeline.task_status") == [
        ("tick", "ticks", "[1]", ["nightly"])
    ]
    schedules.assert_tasks_are_those_of_firings()


def test_what_is_made_changed_paused_resumed_and_removed_is_seen_within_two_seconds(
    schedules: Schedules, start: Start
) -> None:
    start()
    eventually(schedules.daemons)

    schedules.put("tick")
    eventually(lambda: schedules.firings("tick"), within=2 + 1)

    schedules.put("tick", args=["changed"])
    eventually(
        lambda: schedules.rows("SELECT 1 FROM pipeline.task_status WHERE args::text = '[\"changed\"]'"), within=2 + 1
    )

    assert schedules.ask(store.pause, "tick", by=ME)
    paused = schedules.firings("tick")
    schedules.put("other")
    eventually(lambda: len(schedules.firings("other")) >= 2)
    assert schedules.firings("tick") == paused

    assert schedules.ask(store.resume, "tick", by=ME)
    resumed_at = schedules.read("tick").done_until
    eventually(lambda: schedules.firings("tick") != paused, within=2 + 1)
    assert schedules.firings("tick")[len(paused)].due_at > resumed_at, "nothing of the pause is made up for"

    assert schedules.ask(store.remove, "tick", by=ME) == "removed"
    removed = schedules.firings("tick")
    schedules.go_on("other", seconds=2)
    assert schedules.firings("tick") == removed


def test_a_schedule_with_a_long_way_to_go_is_fired_at_once_when_it_is_changed(
    schedules: Schedules, start: Start
) -> None:
    start()
    schedules.put("tick", "1d")
    schedules.put("seen")
    eventually(lambda: schedules.firings("seen"))

    schedules.put("tick", "1s")

    eventually(lambda: schedules.firings("tick"), within=2 + 1)


@pytest.mark.parametrize(
    "wrong", [{"actor": "unheard"}, {"options": {"unheard": 1}, "tags": ["x" * 10_000]}, {"expression": "fortnightly"}]
)
def test_one_that_cannot_be_fired_is_complained_of_and_stays_due_and_others_go_on(
    schedules: Schedules, start: Start, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.2)
    schedules.put("wrong", **wrong)
    before = schedules.last("wrong")
    with captured_logs("scheduler") as logs:
        start()
        schedules.put("tick")
        schedules.go_on("tick", seconds=2)
        eventually(lambda: schedules.rows("SELECT 1 FROM pipeline.scheduler WHERE failing = '{wrong}'"))

        complaints = [line for line in logs if line["event"] == "schedule.not_fired"]
        assert [(line["schedule"], line["log_level"]) for line in complaints] == [("wrong", "error")]
    assert schedules.last("wrong") == before

    monkeypatch.setattr(failures, "_COMPLAINT_SECONDS", 0)
    with captured_logs("scheduler") as logs:
        eventually(lambda: logs)
    schedules.put("wrong", actor="tick", options={}, tags=[], expression="1s")
    eventually(lambda: schedules.firings("wrong"), within=3)
    eventually(lambda: schedules.rows("SELECT 1 FROM pipeline.scheduler WHERE failing = '{}'"))


def test_an_actor_that_is_mended_in_time_has_missed_nothing(
    schedules: Schedules, start: Start, broker: Any, tick: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.05)
    row = schedules.put("tick")
    broker.actors.pop("tick")
    with captured_logs("scheduler") as logs:
        start()
        eventually(lambda: any(line["event"] == "schedule.not_fired" for line in logs))

    broker.actors["tick"] = tick
    schedules.go_on("tick")

    firings = schedules.firings("tick")
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set this machine's clock, as far as the daemon and APScheduler read it."""

    class Clock(real.datetime):
        off = timedelta()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.datetime.now(tz) + cls.off

    for reader in (apscheduler.schedulers.base, database_clock, timers, module):
        monkeypatch.setattr(reader, "datetime", Clock)

    def jump(seconds: float) -> None:
        Clock.off += timedelta(seconds=seconds)

    return jump


@pytest.mark.parametrize("seconds", [-3600, 3600, -2, 2])
def test_a_jump_of_the_local_clock_is_noticed_at_the_next_look(
    schedules: Schedules, start: Start, clock: Callable[[float], None], seconds: float
) -> None:
    """A timer that was set before it would come an hour too late, or at once."""
    schedules.put("tick")
    start()
    schedules.go_on("tick", seconds=0)

    clock(seconds)
    schedules.go_on("tick", seconds=2)

    firings = schedules.firings("tick")
    steps = {after.due_at - before.due_at for before, after in pairwise(firings)}
    assert steps == {timedelta(seconds=1)}
    assert all(timedelta(0) <= firing.fired_at - firing.due_at < timedelta(seconds=2.5) for firing in firings[1:])


def test_what_was_dealt_with_is_counted(schedules: Schedules, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.2)
    schedules.put("tick", grace_seconds=1, missed="skip", overlap="skip", anchor_at=LONG_AGO)
    schedules.rows("UPDATE pipeline.schedule SET counts_from = now() - interval '1 hour'")
    daemon = start()
    schedules.go_on("tick", seconds=2)
    daemon.stop()

    counted = dict(schedules.rows("SELECT outcome::text, instants FROM pipeline.schedule_total"))
    found = dict(schedules.rows("SELECT outcome::text, sum(instants)::int FROM pipeline.firing GROUP BY outcome"))

    assert counted == found
    assert counted["m"] > 3000
    assert counted.keys() == {"f", "o", "m"}
    schedules.ask(store.remove, "tick", by=ME)
    assert schedules.rows("SELECT 1 FROM pipeline.schedule_total") == []


def test_a_long_backlog_is_made_up_for_without_a_break(schedules: Schedules, start: Start) -> None:
    schedules.put("tick", missed="all", anchor_at=LONG_AGO)
    schedules.rows("UPDATE pipeline.schedule SET counts_from = date_trunc('second', now()) - interval '500 s'")
    row = schedules.read("tick")
    start()

    schedules.go_on("tick", seconds=0, within=10)

    firings = schedules.firings("tick")
    assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    assert len(firings) >= 500
    assert firings[499].fired_at - firings[0].fired_at < timedelta(seconds=5)
    schedules.assert_tasks_are_those_of_firings()


def test_several_in_one_process_fire_each_instant_once(schedules: Schedules, start: Start) -> None:
    rows = [schedules.put(f"tick_{number}", missed="all") for number in range(20)]
    for _ in range(3):
        start()

    schedules.go_on(*(row.name for row in rows))

    for row in rows:
        firings = schedules.firings(row.name)
        assert [firing.due_at for firing in firings] == due(row, firings[-1].due_at)
    schedules.assert_tasks_are_those_of_firings()
