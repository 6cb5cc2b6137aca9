"""The table equals the code, whoever and how many make it so."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier
from types import ModuleType

import pytest

from pipeline.errors import ConfigurationError, ScheduleDeclared
from pipeline.runtime import transact
from pipeline.store import schedules
from scheduler import Schedule, add_schedule, find_schedule, list_schedules, pause_schedule, resume_schedule
from scheduler.declare import Counts, _sync, declared, sync

pytestmark = pytest.mark.usefixtures("bound")

OURS, THEIRS = "declared_schedules", "other_schedules"


def nightly(name: str = "nightly", **given) -> Schedule:
    return Schedule(name, **{"actor": "scheduled_report", "cron": "0 2 * * *", "timezone": "Europe/Berlin", **given})


@pytest.fixture
def declare(monkeypatch):
    """Let a module declare schedules, or have none at all."""

    def declare(*schedules, module=OURS):
        made = ModuleType(module)
        made.SCHEDULES = list(schedules)
        monkeypatch.setitem(sys.modules, module, made)

    return declare


def synced(*modules: str) -> Counts:
    return sync(modules=modules or (OURS,))


def names() -> list[str]:
    return [row.name for row in list_schedules()]


def test_what_code_declares_is_made(declare):
    declare(
        nightly(args=[2025], tags=["b", "a"], jitter="5m", description="Every night"),
        nightly("weekly", cron="0 3 * * 1"),
    )

    assert synced() == Counts(made=2)

    row = find_schedule("nightly")
    assert (row.expression, row.timezone, row.args, row.tags, row.jitter_seconds) == (
        "0 2 * * *",
        "Europe/Berlin",
        [2025],
        ["a", "b"],
        300,
    )
    assert (row.declared_by, row.state, row.updated_by) == (OURS, "active", "scheduler")


def test_another_start_changes_nothing(declare):
    declared_ones = (
        nightly(options={"max_retries": 3}, kwargs={"month": 2}, priority=5, queue="slow"),
        nightly("often", cron="*/5 * * * *", missed="all", max_age="1d"),
        Schedule("hourly", actor="scheduled_report", every="1h", grace="1m"),
        Schedule(
            "monthly", actor="scheduled_report", calendar="1 month 09:30", timezone="America/New_York", overlap="queue"
        ),
        Schedule("once", actor="scheduled_report", at="2030-01-01T00:00"),
    )
    declare(*declared_ones)
    synced()
    before = list_schedules()

    assert synced() == Counts(same=5)
    assert list_schedules() == before


def test_what_code_changes_is_changed_and_noted(declare, rows):
    declare(nightly())
    synced()
    declare(nightly(cron="0 3 * * *"))

    assert synced() == Counts(changed=1)

    assert find_schedule("nightly").expression == "0 3 * * *"
    assert rows(
        "SELECT who, source, reason, old_value->>'expression' FROM pipeline.audit_log WHERE action = 'edit'"
    ) == [("scheduler", "scheduler", f"declared in {OURS}", "0 2 * * *")]


def test_a_field_that_code_does_not_give_any_more_has_its_default_again(declare):
    declare(nightly(queue="slow", jitter="5m", missed="all", max_age="1h"))
    synced()
    declare(nightly())
    synced()

    row = find_schedule("nightly")
    assert (row.queue, row.jitter_seconds, row.missed, row.max_age_seconds) == (None, 0, "once", None)


def test_a_rename_is_a_removal_and_a_new_one(declare):
    declare(nightly())
    synced()
    declare(nightly("renamed"))

    assert synced() == Counts(made=1, removed=1)
    assert names() == ["renamed"]


def test_a_pause_of_an_operator_survives_whatever_is_deployed(declare):
    declare(nightly())
    synced()
    pause_schedule("nightly", who="ada", reason="wrong prices")
    declare(nightly(cron="0 3 * * *"))

    assert synced() == Counts(changed=1)

    row = find_schedule("nightly")
    assert (row.state, row.paused_by, row.pause_reason) == ("paused", "ada", "wrong prices")


def test_what_was_made_at_run_time_is_never_touched(declare):
    before = add_schedule("nightly", "scheduled_report", every="1h", who="ada")
    add_schedule("mine", "scheduled_report", every="1h", who="ada")
    declare(nightly(), nightly("other"))

    assert synced() == Counts(made=1, taken=("nightly",))

    assert find_schedule("nightly") == before
    assert names() == ["mine", "nightly", "other"]


def test_each_module_removes_its_own(declare):
    declare(nightly())
    declare(nightly("theirs"), module=THEIRS)
    synced(OURS, THEIRS)
    declare()

    assert synced() == Counts(removed=1)
    assert names() == ["theirs"]


def test_a_schedule_may_move_from_one_module_to_another(declare):
    declare(nightly())
    declare(module=THEIRS)
    synced(OURS, THEIRS)
    declare()
    declare(nightly(), module=THEIRS)

    assert synced(OURS, THEIRS) == Counts(made=1, removed=1)
    assert find_schedule("nightly").declared_by == THEIRS


def test_what_code_disables_is_paused_as_long_as_the_code_says_so(declare):
    declare(nightly(enabled=False))
    synced()

    assert find_schedule("nightly").state == "paused"
    with pytest.raises(ScheduleDeclared, match="enabled=False"):
        resume_schedule("nightly", who="ada")

    declare(nightly())
    assert synced() == Counts(same=1)
    assert find_schedule("nightly").state == "active"

    declare(nightly(enabled=False))
    synced()
    assert find_schedule("nightly").state == "paused"


def test_an_operators_pause_outlives_one_of_the_code(declare):
    declare(nightly(enabled=False))
    synced()
    pause_schedule("nightly", who="ada")
    declare(nightly())
    synced()

    assert find_schedule("nightly").paused_by == "ada"


def test_many_who_do_it_at_once_do_it_once(declare, rows):
    declare(*(nightly(f"schedule_{n}") for n in range(8)))
    barrier = Barrier(6)

    def daemon(_number: int) -> Counts:
        barrier.wait(10)
        return synced()

    with ThreadPoolExecutor(6) as pool:
        counts = list(pool.map(daemon, range(6)))

    assert names() == [f"schedule_{n}" for n in range(8)]
    assert (sum(each.made for each in counts), sum(each.same for each in counts)) == (8, 40)
    assert rows("SELECT count(*) FROM pipeline.audit_log WHERE action = 'add'") == [(8,)]


def test_old_and_new_code_at_once_do_not_wait_for_each_other(declare, monkeypatch):
    """What the one removes the other makes. Each locks in the order of names, so none has what the other waits for."""
    declare(nightly("a"), nightly("z"))
    synced()
    barrier = Barrier(2)

    def daemon(*wanted: Schedule) -> Counts:
        module = {each.name: (OURS, each) for each in wanted}
        barrier.wait(10)
        return transact(partial(_sync, wanted=module, modules=frozenset([OURS]), who="scheduler"))

    for _ in range(10):
        with ThreadPoolExecutor(2) as pool:
            old = pool.submit(daemon, nightly("a"), nightly("z"))
            new = pool.submit(daemon, nightly("m"), nightly("z", cron="0 4 * * *"))
            assert old.result(20)
            assert new.result(20)

    assert names() in (["a", "z"], ["m", "z"], ["a", "m", "z"])


def test_a_failure_half_way_changes_nothing(declare, monkeypatch):
    declare(nightly("a"), nightly("b"))
    put = schedules.put

    def stumble(sql, cursor, schedule, *, by):
        if schedule.name == "b":
            raise ConnectionError
        return put(sql, cursor, schedule, by=by)

    monkeypatch.setattr(schedules, "put", stumble)
    with pytest.raises(ConnectionError):
        synced()

    assert names() == []


def test_a_module_that_cannot_be_imported_changes_nothing(declare):
    declare(nightly())
    synced()
    declare()
    with pytest.raises(ConfigurationError, match="There is no module nowhere"):
        synced(OURS, "nowhere")

    assert names() == ["nightly"]


def test_a_name_is_declared_once(declare):
    declare(nightly())
    declare(nightly(), module=THEIRS)

    with pytest.raises(ConfigurationError, match=f"nightly is declared twice: in {OURS} and in {THEIRS}"):
        synced(OURS, THEIRS)


def test_a_schedule_that_makes_no_sense_is_told_with_its_module(tmp_path, monkeypatch):
    text = "from scheduler import Schedule\nSCHEDULES = [Schedule('x', actor='scheduled_report', cron='61 * * * *')]\n"
    (tmp_path / "broken_schedules.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigurationError) as caught:
        synced("broken_schedules")

    assert str(caught.value) == (
        "The module broken_schedules cannot be imported: The schedule x is not valid: expression: minute: 61 is above 59"
    )


def test_schedules_are_a_list_of_schedules(monkeypatch):
    module = ModuleType(OURS)
    module.SCHEDULES = ["nightly"]
    monkeypatch.setitem(sys.modules, OURS, module)

    with pytest.raises(ConfigurationError, match="is not a list of scheduler.Schedule"):
        synced()


def test_a_module_may_bring_nothing_but_its_actors():
    assert synced("actors.reports") == Counts()


def test_those_of_the_sample_erp_make_sense():
    wanted = declared()

    assert set(wanted) == {"nightly_sales_report", "hourly_dunning", "month_end_closing"}
    assert {module for module, _ in wanted.values()} == {"scheduler.schedules"}
    assert sync() == Counts(made=3)
    assert sync() == Counts(same=3)
