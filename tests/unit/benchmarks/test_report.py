import json
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.benchmarks.peers import charts, report
from tests.benchmarks.peers.catalog import METRIC
from tests.benchmarks.peers.figures import Results, Spread

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def results() -> Results:
    results = Results()
    for number, (ours, pgqueuer) in enumerate([(20_000, 8_000), (30_000, 10_000), (24_000, 8_000)], 1):
        results.add("drain", "ours", number, ours)
        results.add("drain", "pgqueuer", number, pgqueuer)
        results.add("p50", "ours", number, 1 + number / 10)
    results.versions["pgqueuer"] = {"pgqueuer": "1.6.0"}
    results.left_out["huey-redis"] = "no redis-server"
    results.failures["procrastinate: drain"] = "ended with status 1\nthe last line of its log"
    return results


def test_the_page_shows_medians_ranges_ratios_and_goals(results: Results) -> None:
    page = report.markdown(results, {"cores": "2"}).splitlines()

    assert "- cores: 2" in page
    assert "|  | drain/s | idle latency p50, ms |" in page
    assert "| ours | 24,000<br>20,000–30,000 | 1.20<br>1.10–1.30 |" in page
    assert "| pgqueuer | 8,000<br>8,000–10,000 | – |" in page
    assert "| pgqueuer | 3.00<br>2.50–3.00 | – |" in page
    assert "| drain/s: ours / pgqueuer | ≥ 2 | 3.00 (2.50–3.00) | yes |" in page


def test_the_page_says_what_ran_and_what_is_missing(results: Results) -> None:
    page = report.markdown(results, {})

    assert "| pgqueuer | pgqueuer 1.6.0 | asyncpg, uvloop" in page
    assert "- huey + Redis was left out: no redis-server\n" in page
    assert "- procrastinate (drain) failed: ended with status 1\n" in page
    assert "celery" not in page.lower()  # not measured, not mentioned


def test_a_goal_that_was_missed_says_so(results: Results) -> None:
    results.values["drain"]["pgqueuer"] = {1: 20_000}

    assert report.goals_of(results) == [("drain/s: ours / pgqueuer", "≥ 2", "1.00", "no")]


def test_a_goal_without_measurement_is_not_judged() -> None:
    assert report.goals_of(Results()) == []
    assert "Goals" not in report.markdown(Results(), {})
    assert len(report.terminal(Results())) == 1


def test_the_document_has_every_run(results: Results) -> None:
    document = json.loads(json.dumps(report.document(results, {"cores": "2"})))

    assert document["runs"]["drain"] == {"ours": [20_000, 30_000, 24_000], "pgqueuer": [8_000, 10_000, 8_000]}
    assert [(goal["other"], goal["ratio"], goal["reached"]) for goal in document["goals"]] == [("pgqueuer", 3, True)]
    assert document["failures"] == results.failures
    assert document["left_out"] == results.left_out


def test_the_terminal_shows_the_same_figures(results: Results) -> None:
    console = Console(width=100, file=StringIO())
    for table in report.terminal(results):
        console.print(table)

    assert "20,000–30,000" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "≥ 2" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_chart_has_a_bar_for_each_system_the_best_first(results: Results, tmp_path: Path) -> None:
    (drain, latency) = charts.write(results, tmp_path / "new")
    bars = list(ElementTree.parse(drain).iter(f"{SVG}rect"))  # noqa: S314 - we wrote it

    assert [path.name for path in (drain, latency)] == ["peers-drain.svg", "peers-p50.svg"]
    assert [bar.get("class") for bar in bars] == ["ours", "peer"]
    assert float(bars[0].get("width", 0)) == pytest.approx(3 * float(bars[1].get("width", 0)), rel=0.01)
    assert "24,000" in drain.read_text()


def test_a_chart_of_what_should_be_small_begins_with_the_smallest(results: Results) -> None:
    results.add("p50", "pgqueuer", 1, 0.7)

    assert [title for title, _, _ in charts.bars(results, METRIC["p50"])] == ["pgqueuer", "ours"]


def test_a_chart_stays_inside_its_frame_and_escapes_titles() -> None:
    drawn = ElementTree.fromstring(  # noqa: S314 - we wrote it
        charts.chart(METRIC["drain"], [("a < b & c", Spread(5, 1, 10), False), ("none", Spread(0, 0, 0), True)])
    )
    width = float(drawn.get("viewBox", "").split()[2])

    assert "a < b & c" in "".join(drawn.itertext())
    assert all(float(line.get("x2", 0)) < width for line in drawn.iter(f"{SVG}line"))
