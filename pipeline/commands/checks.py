"""What ``pipeline doctor`` looks at: one function each, which asks one question and judges the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.db import migrate
from pipeline.store import doctor, metrics, retention, workers

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.settings import Settings

#: This machine's clock decides nothing, but its log is read beside those of others.
_SKEW_SECONDS, _WRONG_SECONDS = 2.0, 60.0
_SCHEDULER_SKEW_SECONDS = 5.0
_FULL, _TOO_FULL = 0.8, 0.95
#: Runs, tasks and parked tasks that are looked at, at most.
_ATTEMPTS, _TASKS, _PARKED = 100_000, 10_000, 10_000
#: Counters may be off by so many runs, by such a part, and by what each worker that ended counts in ten seconds.
_SLACK_RUNS, _SLACK_PART, _KILLED_PART = 10, 0.02, 10 / 300
_LONG_SECONDS, _TOO_LONG_SECONDS = 300.0, 3600.0
_OLD_TRANSACTIONS, _TOO_OLD_TRANSACTIONS = 1_000_000, 10_000_000
_MANY_DEAD, _TOO_MANY_DEAD = 50_000, 500_000
#: Whoever sweeps gates comes by every second.
_SWEEP_SECONDS = 3.0


class Verdict(StrEnum):
    """How it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, and what to do about it."""

    verdict: Verdict
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """Whom to ask. Each question has a transaction of its own."""

    url: str
    sql: Mapping[str, str]
    settings: Settings
    cursor: Cursor


def schema(patient: Patient) -> Answer:
    """The schema is the one of this code."""
    found = migrate.status(patient.url, patient.settings.schema_name)
    changed = [migration.name for migration in found.of_state(migrate.State.CHANGED)]
    if changed:
        return _fail(f"edited after they were applied: {_listed(changed)}", "Restore the files of the release.")
    if found.missing:
        return _fail(f"missing: {_listed(found.missing)}", "Run: pipeline migrate")
    if found.newer or found.changed_files:
        newer = _listed([*found.newer, *found.changed_files])
        return _warn(f"newer than this code: {newer}", "Update this machine, unless a deploy is under way.")
    return _ok(f"{len(found.migrations)} migrations, all applied")


def clock(patient: Patient, now: Callable[[], float] = time.time) -> Answer:
    """This machine's clock and the server's show the same."""
    before = now()
    epoch = workers.clock(patient.sql, patient.cursor)
    seconds = abs(epoch - (before + now()) / 2)
    found = f"{seconds:.1f} s apart"
    remedy = "Let NTP set both clocks. Nothing depends on this machine's, but its log is hard to read."
    return _grade(found, remedy, warn=seconds > _SKEW_SECONDS, fail=seconds > _WRONG_SECONDS)


def connections(patient: Patient) -> Answer:
    """There is room for more connections."""
    used, most = doctor.connections(patient.sql, patient.cursor)
    remedy = "Raise max_connections, start fewer processes, or put a pooler between."
    return _grade(f"{used} of {most}", remedy, warn=used > _FULL * most, fail=used > _TOO_FULL * most)


def autovacuum(patient: Patient) -> Answer:
    """Dead rows are removed."""
    off = doctor.unvacuumed(patient.sql, patient.cursor)
    remedy = "Turn it on again, or claims get slower with each task that runs."
    return _fail(f"turned off for {_listed(off)}", remedy) if off else _ok("on")


def partitions(patient: Patient) -> Answer:
    """This week and the next two have their partitions."""
    missing = retention.missing_partitions(patient.sql, patient.cursor, patient.settings.retention_days)
    if not missing:
        return _ok("this week and two ahead")
    names = _listed([f"{table}_w{week}" for table, week in missing])
    ahead = min(metrics.partitions_ahead(patient.sql, patient.cursor).values(), default=0)
    remedy = "Any worker makes them, ten minutes apart: is one alive, and is a long transaction in its way?"
    return _grade(f"missing: {names}", remedy, warn=True, fail=ahead < 1)


def strays(patient: Patient) -> Answer:
    """Nothing of this week or a later one lies in a default partition."""
    tables = doctor.stray_rows(patient.sql, patient.cursor)
    remedy = "A worker moves them when it makes the partition that is missing; see partitions."
    return _fail(f"rows in the default partition of {_listed(tables)}", remedy) if tables else _ok("none")


def leases(patient: Patient) -> Answer:
    """Every worker that should be alive beats."""
    lease = patient.settings.lease_seconds
    silent = doctor.silent_workers(patient.sql, patient.cursor, lease_seconds=lease)
    if not silent:
        return _ok(f"all beat within {lease:g} s")
    found = _listed([f"worker {each.worker_id} ({each.host}, pid {each.pid}): {each.seconds:.0f} s" for each in silent])
    remedy = "The rescue needs one worker that is alive for a lease: start one."
    return _grade(f"silent: {found}", remedy, warn=True, fail=silent[0].seconds > 2 * lease)


def claims(patient: Patient) -> Answer:
    """Whatever is claimed is held by a worker that is alive."""
    orphans = doctor.orphaned_claims(patient.sql, patient.cursor)
    if not orphans:
        return _ok("none without a worker")
    found = _listed([f"{tasks} tasks of worker {worker_id}" for worker_id, tasks in orphans.items()])
    remedy = (
        "Of a worker that nobody knows, another one takes them within a lease. Else somebody changed its row by hand."
    )
    return _fail(found, remedy)


def queues(patient: Patient) -> Answer:
    """Every queue in which tasks are due has a worker that takes them."""
    unserved = doctor.unserved_queues(patient.sql, patient.cursor)
    found = _listed([f"{queue} (due for {seconds:.0f} s)" for queue, seconds in unserved.items()])
    return (
        _fail(f"no worker for {found}", "Start one with -Q, or pause the queue.") if unserved else _ok("all have one")
    )


def schedulers(patient: Patient) -> Answer:
    """Whatever is due is fired."""
    found = doctor.scheduler_health(patient.sql, patient.cursor)
    if found.schedules and not found.alive:
        return _fail(f"schedules: {found.schedules}, and no daemon", "Run: pipeline scheduler, or pause the schedules.")
    if found.failing:
        remedy = "The scheduler's log says why (schedule.not_fired): mostly it does not import the actor's module."
        return _fail(f"due and not fired: {_listed(found.failing)}", remedy)
    if found.off_seconds > _SCHEDULER_SKEW_SECONDS:
        remedy = "Let NTP set it. The database's clock decides what is due, so nothing is fired early or late."
        return _warn(f"the clock of {found.off} is {found.off_seconds:.1f} s off", remedy)
    return _ok(f"schedules: {found.schedules}, daemons: {found.alive}")


def tasks(patient: Patient) -> Answer:
    """Every task waits, runs or has ended."""
    count, task_id = doctor.lost_tasks(patient.sql, patient.cursor, limit=_TASKS)
    if not count:
        return _ok(f"none of the {_TASKS:,} newest")
    return _fail(f"{count} tasks neither wait nor run nor ended, such as {task_id}", "Run: pipeline repair ready")


def parked(patient: Patient) -> Answer:
    """Whatever is parked at a gate has a reason to be."""
    gates = doctor.idle_gates(patient.sql, patient.cursor, limit=_PARKED)
    if gates:  # the last slot may have been freed a moment ago
        threading.Event().wait(_SWEEP_SECONDS)
        still = {(each.gate, each.first_id) for each in doctor.idle_gates(patient.sql, patient.cursor, limit=_PARKED)}
        gates = [each for each in gates if (each.gate, each.first_id) in still]
    found = _listed([f"{each.tasks} at {each.gate}" for each in gates])
    return (
        _fail(f"without a reason: {found}", "Any worker lets them go on: is one alive?")
        if gates
        else _ok("none without")
    )


def cancels(patient: Patient) -> Answer:
    """No request to end a task outlives it."""
    count = doctor.stale_cancels(patient.sql, patient.cursor)
    remedy = "Any worker forgets them: is one alive?"
    return _warn(f"{count} of tasks that have ended", remedy) if count else _ok("none of tasks that have ended")


def counters(patient: Patient) -> Answer:
    """The counters agree with what happened, but for what a killed process had not written."""
    runs = doctor.counted_runs(patient.sql, patient.cursor, limit=_ATTEMPTS)
    slack = _SLACK_RUNS + runs.attempts * (_SLACK_PART + _KILLED_PART * runs.ended_workers)
    missing = runs.attempts - runs.counted
    found = f"{runs.counted} runs counted in five minutes, {runs.attempts} found"
    # Of many attempts only the newest were looked at, and the counters may know of more.
    is_off = missing > slack or (runs.is_complete and -missing > slack)
    remedy = "Dashboards are wrong, tasks are not. Look for caretaker.interrupted in the workers' log."
    return _grade(found, remedy, warn=False, fail=is_off)


def horizon(patient: Patient) -> Answer:
    """Nobody keeps dead rows from being removed."""
    holders = [each for each in metrics.horizon(patient.sql, patient.cursor) if _rank(each)]
    if not holders:
        return _ok(f"nobody for longer than {_LONG_SECONDS:g} s")
    remedy = "End the session (pg_terminate_backend), commit or roll back what is prepared, drop a slot nobody reads."
    found = _listed([_described(each) for each in sorted(holders, key=_rank, reverse=True)])
    return _grade(f"held by {found}", remedy, warn=True, fail=max(map(_rank, holders)) > 1)


def dead_rows(patient: Patient) -> Answer:
    """Few dead rows lie among the tasks that wait."""
    dead = metrics.dead_rows(patient.sql, patient.cursor)
    remedy = f"See horizon and autovacuum; then: VACUUM {patient.settings.schema_name}.ready"
    return _grade(f"{dead} in ready", remedy, warn=dead > _MANY_DEAD, fail=dead > _TOO_MANY_DEAD)


#: In the order in which one explains the next.
CHECKS: tuple[Callable[[Patient], Answer], ...] = (
    schema, clock, connections, autovacuum, partitions, strays, leases, claims, queues, schedulers, tasks, parked,
    cancels, counters, horizon, dead_rows,
)  # fmt: skip


def _rank(holder: metrics.Holder) -> int:
    """Tell how bad it is: 0 not, 1 somewhat, 2 very."""
    seconds, age = holder.seconds or 0, holder.age or 0
    if seconds > _TOO_LONG_SECONDS or age > _TOO_OLD_TRANSACTIONS:
        return 2
    return int(seconds > _LONG_SECONDS or age > _OLD_TRANSACTIONS)


def _described(holder: metrics.Holder) -> str:
    parts = [f"for {holder.seconds:.0f} s" if holder.seconds is not None else "", f"{holder.age or 0} transactions"]
    if holder.query_seconds is not None:
        parts.append(f"last statement {holder.query_seconds:.0f} s ago")
    return f"{holder.name} ({', '.join(filter(None, parts))})"


def _listed(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """Write the first of some names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _ok(found: str) -> Answer:
    return Answer(Verdict.OK, found)


def _warn(found: str, remedy: str) -> Answer:
    return Answer(Verdict.WARN, found, remedy)


def _fail(found: str, remedy: str) -> Answer:
    return Answer(Verdict.FAIL, found, remedy)


def _grade(found: str, remedy: str, *, warn: bool, fail: bool) -> Answer:
    if fail:
        return _fail(found, remedy)
    return _warn(found, remedy) if warn else _ok(found)
