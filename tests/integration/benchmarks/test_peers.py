"""The systems of ``./dev bench peers`` that need nothing but this environment, at the smallest scale."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest

from tests.benchmarks.peers import interleaved
from tests.benchmarks.peers.catalog import PEER, VISITS
from tests.benchmarks.peers.figures import Results
from tests.benchmarks.peers.process import PeerFailed
from tests.benchmarks.peers.servers import NO_POOLER, NO_REDIS, Postgres
from tests.benchmarks.peers.stage import House, Stage
from tests.benchmarks.peers.visits import VISIT, Scale
from tests.fixtures.database import drop_database
from tests.fixtures.pgbouncer import NO_PGBOUNCER, pgbouncer, program

TINY = Scale(rounds=1, send_seconds=0.05, bulk_seconds=0.02, drain_seconds=0.05, pulses=10, work_seconds=0.1)

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def house(server: tuple[str, str], tmp_path: Path) -> Iterator[House]:
    url, run = server
    prefix = f"peers_{run}_{os.getpid()}"
    yield House(Postgres(url, "any"), None, tmp_path, prefix)
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", (prefix,))
        left = [name for (name,) in cursor.fetchall()]
    connection.close()
    for name in left:
        drop_database(url, name)


@pytest.mark.parametrize(
    ("name", "visits"),
    [
        ("bare", ["sends", "live"]),
        ("ours", ["sends", "drain", "live"]),
        ("dramatiq-pg", ["live"]),
        ("dramatiq-stub", ["drain"]),
        ("bare-parallel", ["committed"]),
        ("ours-cursor", ["committed"]),
        ("ours-session", ["committed"]),
    ],
)
def test_every_figure_of_a_visit_is_measured(house: House, name: str, visits: list[str]) -> None:
    peer, results, said = PEER[name], Results(), list[str]()

    assert interleaved.prepare(house, [peer], results, said.append) == [peer]
    for visit in visits:
        interleaved.measure(house, visit, [peer], TINY, results, said.append)

    assert results.failures == {}
    expected = {metric for visit in visits for metric in VISITS[visit]}
    expected -= set() if peer.bulk else {"bulk"}
    expected -= set() if peer.processes else {"send_work"}
    assert {metric for metric in expected if results.values[metric][name][1] > 0} == expected
    assert set(results.versions[name]) == set(peer.packages)
    assert len(said) == len(visits)


def test_who_fails_is_reported_with_its_log_and_the_others_go_on(house: House) -> None:
    """The worker of a system without one ends at once; in the second round it is not tried again."""
    results, said = Results(), list[str]()
    broken = replace(PEER["bare"], name="broken", processes=1, visits=("live",))
    peers = interleaved.prepare(house, [broken, PEER["bare"]], results, said.append)

    interleaved.measure(house, "live", peers, replace(TINY, rounds=2), results, said.append)

    assert list(results.failures) == ["broken: live"]
    assert "AttributeError" in results.failures["broken: live"]
    assert [len(runs) for runs in results.values["p50"].values()] == [2]


def test_who_cannot_be_loaded_is_reported_and_left_out(house: House) -> None:
    results, said = Results(), list[str]()

    assert interleaved.prepare(house, [replace(PEER["bare"], module="nothing")], results, said.append) == []
    assert "ModuleNotFoundError" in results.failures["bare: set-up"]


def test_without_redis_its_systems_are_left_out_and_the_reason_is_told(house: House) -> None:
    results, said = Results(), list[str]()

    assert interleaved.prepare(house, [PEER["celery-redis"]], results, said.append) == []
    assert results.left_out == {"celery-redis": NO_REDIS}
    assert said == [f"celery-redis is left out: {NO_REDIS}"]


def test_without_pgbouncer_its_system_is_left_out_and_the_reason_is_told(house: House) -> None:
    results, said = Results(), list[str]()

    assert interleaved.prepare(house, [PEER["ours-pgbouncer"]], results, said.append) == []
    assert results.left_out == {"ours-pgbouncer": NO_POOLER}


@pytest.mark.skipif(program() is None, reason=NO_PGBOUNCER)
def test_workers_and_producers_reach_the_database_through_pgbouncer(house: House) -> None:
    results, said, peer = Results(), list[str](), PEER["ours-pgbouncer"]
    with pgbouncer(house.postgres.url) as pooler:
        house.pooler = pooler
        peers = interleaved.prepare(house, [peer], results, said.append)
        interleaved.measure(house, "live", peers, TINY, results, said.append)
        with house.stage(peer) as stage:
            assert stage._environment["DATABASE_URL"].startswith(pooler.url(house.postgres.url).rpartition("/")[0])

    assert results.failures == {}
    assert results.values["p50"]["ours-pgbouncer"][1] > 0


def test_tasks_that_do_not_come_to_an_end_are_not_waited_for(house: House) -> None:
    with house._stage(PEER["dramatiq-stub"], "") as stage:
        stage.workers()

        with pytest.raises(PeerFailed, match="0 of 5 tasks"):
            stage.wait_done(5, stalled_after=0.2)


def test_figures_with_logged_exceptions_are_refused(house: House) -> None:
    with house._stage(PEER["dramatiq-stub"], "") as stage:
        child = stage.child()
        child.ask("send", count=1)
        stage.check_log()

        with pytest.raises(PeerFailed, match="send_many"):
            child.ask("send_many", count=1)  # it has none
        (stage._directory / "log").write_text("Traceback (most recent call last):\n  why")
        with pytest.raises(PeerFailed, match=r"exceptions were logged\n.*\n  why"):
            stage.check_log()


def test_processes_are_gone_after_a_visit_also_if_it_is_interrupted(house: House) -> None:
    def interrupted(stage: Stage) -> None:
        stage.workers()
        pids.extend(worker.pid for worker in stage._workers)
        raise KeyboardInterrupt

    pids = list[int]()
    with pytest.raises(KeyboardInterrupt), house._stage(PEER["dramatiq-stub"], "") as stage:
        interrupted(stage)

    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_every_kind_of_visit_has_its_measurement() -> None:
    assert VISIT.keys() == VISITS.keys()
