"""What ``./dev bench`` counts per task, at the smallest scale and on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.db import embedded
from tests.benchmarks import costs
from tests.benchmarks.costs import CASES, Costs
from tests.fixtures.database import query

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that nobody else uses: its statistics are of all its databases."""
    with embedded.start(tmp_path_factory.mktemp("server"), durable=False) as server:
        yield server.url


def test_what_a_process_does_once_is_not_counted() -> None:
    small = Costs(wal_bytes=1_100, wal_records=15, images=3, commits=12, buffers=50, dead={"ready": 10, "lane": 1})
    large = Costs(wal_bytes=2_100, wal_records=25, images=3, commits=22, buffers=70, dead={"ready": 20, "lane": 1})

    each = costs.per_task(small, large, 10)

    assert (each.wal_bytes, each.wal_records, each.images, each.commits, each.buffers) == (100, 1, 0, 1, 2)
    assert each.dead == {"ready": 1, "lane": 0}
    assert each.dead_rows == 1


def test_a_drain_leaves_one_dead_row_per_task_and_the_server_as_it_was(own_server: str) -> None:
    (drain,) = [case for case in CASES if case.title == "drain"]

    found = costs.measure_case(own_server, drain, 300, with_images=False)

    # How often workers look while they start differs between runs, which at this scale is some hundredths.
    assert found.dead["ready"] == pytest.approx(1, abs=0.2)
    assert 150 < found.wal_bytes < 1_500
    assert found.commits == pytest.approx(0, abs=0.5)
    assert found.round_trips == pytest.approx(0, abs=0.5)
    assert [query(own_server, f"SHOW {name}") for name in ("autovacuum", "full_page_writes")] == ["on", "off"]
    (row,) = costs.section({"drain": found}).rows
    assert row[0] == "drain"
    assert "ready" in row[6]
