"""The parts of ``./dev bench growth`` and ``./dev bench xmin``, at the smallest scale."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.benchmarks import growth, measure, xmin
from tests.benchmarks.exchanger import Exchanger
from tests.benchmarks.measure import Side
from tests.benchmarks.paired import Ratio, Report
from tests.benchmarks.peers.figures import Results
from tests.benchmarks.pins import PINS

pytestmark = [pytest.mark.timeout(120), pytest.mark.leaves("ready")]


def ask(url: str, query: str) -> int:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        (count,) = cursor.fetchone() or (0,)
        return int(count)


def waiting(url: str) -> int:
    return ask(url, "SELECT count(*) FROM pipeline.ready WHERE eta <= now()")


@pytest.fixture
def side(database_url: str, tmp_path: Path) -> Side:
    side = xmin.timed_side("", tmp_path)
    side.url = database_url
    return side


@pytest.mark.parametrize("name", list(PINS))
def test_what_is_deleted_while_a_pin_holds_stays_until_it_lets_go(side: Side, name: str) -> None:
    xmin._do_tasks(side, xmin._HISTORY)

    with PINS[name](side.url) as pin:
        xmin.make_dead_rows(side, name, 500)
        assert xmin._dead_rows(side).startswith("ready 500")
        pin.release()
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert ask(side.url, f"SELECT count(*) {others} AND coalesce(backend_xmin, backend_xid) IS NOT NULL") == 0

    assert waiting(side.url) == (1 if pin.sends else 0)
    with Exchanger(side.url) as client:
        client.empty()


def test_claims_and_sends_are_timed_and_as_many_tasks_wait_afterwards(side: Side) -> None:
    growth.prepare(side, growth.DELAYED, 50)
    results = Results()

    growth.time_calls({growth.FEW: side}, growth.Scale(50, 1, ((1, 20), (8, 20))), results)

    assert waiting(side.url) == growth._FEW
    assert ask(side.url, "SELECT count(*) FROM pipeline.ready") == growth._FEW + 50
    assert ask(side.url, "SELECT count(*) FROM pipeline.attempt WHERE outcome = 's'") >= 20 * 9
    assert {
        f"{what} {size}, {name} ms" for what in ("claim", "send") for size in (1, 8) for name in ("p50", "p99")
    } == set(results.values)


def test_a_paused_backlog_is_left_alone(side: Side) -> None:
    measure.add_backlog(side.url, 20, "paused")

    with Exchanger(side.url) as client:
        client.send(3)
        client.empty()

    assert waiting(side.url) == 20


def test_a_drain_has_its_rate_and_the_durations_of_its_exchanges(side: Side, tmp_path: Path) -> None:
    (tmp_path / "exchanges-clean").mkdir()
    timed = xmin.timed_side("", tmp_path / "exchanges-clean")
    timed.url = side.url
    results = Results()

    xmin.drain({"clean": timed}, "pinned", xmin.Scale(drained=400, rounds=1), tmp_path, results)

    assert waiting(side.url) == 0
    assert all(results.values[metric]["clean"][0] > 0 for metric in ("pinned: drain/s", "pinned: exchange p99, ms"))


def test_a_report_says_what_was_asked_and_whether_it_was_reached(tmp_path: Path) -> None:
    results = Results()
    for number, value in enumerate((80.0, 90.0, 100.0)):
        results.add("drain/s", "pinned", number, value)
        results.add("drain/s", "clean", number, 100.0)
    ratios = [Ratio("drain/s", "pinned", "clean", at_least=0.9), Ratio("drain/s", "pinned", "nobody")]
    ratios += [Ratio("drain/s", "clean", "pinned", at_most=1.1), Ratio("drain/s", "clean", "pinned")]
    report = Report("Title", {"rounds": "3"}, results, ratios, {"clean": "none"})

    report.publish(tmp_path / "json", tmp_path / "markdown")

    assert [row[2:] for row in report.rows()] == [
        ("90.00", "100", "0.90 (0.80–1.00)", "≥ 0.9", "yes"),
        ("100", "90.00", "1.11 (1.00–1.25)", "≤ 1.1", "no"),
        ("100", "90.00", "1.11 (1.00–1.25)", "", ""),
    ]
    assert (
        "| drain/s | pinned / clean | 90.00 | 100 | 0.90 (0.80–1.00) | ≥ 0.9 | yes |"
        in (tmp_path / "markdown").read_text()
    )
    assert json.loads((tmp_path / "json").read_text())["runs"]["drain/s"]["pinned"] == [80.0, 90.0, 100.0]
