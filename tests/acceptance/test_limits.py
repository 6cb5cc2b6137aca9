"""A limit holds whatever happens to the workers: looked at from the inside of the tasks."""

import random
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures.broker import QUICK
from tests.fixtures.database import query
from tests.fixtures.limited_actors import LIMIT, count_inside
from tests.fixtures.processes import worker_processes
from tests.fixtures.scale import IS_LONG, choose_seed, tell
from tests.fixtures.wait import eventually

TASKS = 10_000 if IS_LONG else 1_000
DONE = "SELECT count(*) FROM pipeline.attempt WHERE outcome IN ('s', 'f')"


@pytest.mark.stress
@pytest.mark.leaves("worker")
@pytest.mark.timeout(600)
def test_no_more_run_than_the_limit_and_none_is_lost_while_processes_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    """A process a second is killed, and another one takes its place at once."""
    dice = random.Random(choose_seed())
    with closing(PostgresBroker(settings=Settings(database_url=database_url))) as broker:
        broker.declare_queue("limited")
        broker.send_many([count_inside.message(str(tmp_path)) for _ in range(TASKS)])
    kills = 0
    module = "tests.fixtures.limited_actors"
    with worker_processes(4, module, database_url, threads=4, max_losses=100, **QUICK) as processes:
        eventually(lambda: query(database_url, "SELECT count(*) FROM pipeline.worker") == 4, within=30)
        started = time.monotonic()
        while query(database_url, DONE) < TASKS:
            until = time.monotonic() + 1
            eventually(lambda at=until: time.monotonic() >= at or query(database_url, DONE) == TASKS, within=10)  # type: ignore[misc]
            victim = dice.choice(processes)
            victim.kill()
            victim.start()
            kills += 1
            assert time.monotonic() - started < 500, "they do not come to an end"
        seconds = time.monotonic() - started
        for process in processes:
            process.end()

    most = max(int(each.name.split()[1]) for each in tmp_path.glob("saw *"))
    lost = query(database_url, "SELECT count(*) FROM pipeline.attempt WHERE outcome = 'l'")
    tell(f"{TASKS} tasks, limit {LIMIT}: {most} at most inside, {kills} kills, {lost} runs lost, {seconds:.1f} s")
    assert most == LIMIT  # reached, or there would be nothing to see, and never more
    assert query(database_url, "SELECT count(*) FROM pipeline.task_status WHERE state = 'succeeded'") == TASKS
    assert query(database_url, "SELECT count(*) FROM pipeline.slot") == 0
    assert kills > 0
