"""``pipeline repair ready``: tasks that are in no table any more wait again, and nothing else does."""

import dramatiq

from pipeline.runtime import ask
from pipeline.store import tasks
from pipeline.store.audit import By
from tests.fixtures.broker import working


def test_lost_rows_of_ready_come_back_with_their_next_run(broker, rows, states) -> None:
    ran = []

    @dramatiq.actor
    def note(text: str) -> None:
        ran.append(text)

    note.send("finished")
    with working(broker):
        broker.join("default", timeout=10_000)
    note.send("waiting")
    note.send("lost")
    note.send("lost between two runs")
    rows("""INSERT INTO pipeline.attempt (task_id, run, attempt, outcome, finished_at, next_eta)
             SELECT id, 1, 1, 'r', now(), now() FROM pipeline.task_status WHERE args->>0 = 'lost between two runs'""")
    rows("DELETE FROM pipeline.ready WHERE id IN (SELECT id FROM pipeline.task_status WHERE args->>0 <> 'waiting')")

    assert ask(tasks.repair_ready, By("ada", "restored")) == 2
    assert ask(tasks.repair_ready, By("ada", "restored")) == 0

    assert states() == ["succeeded", "queued", "queued", "queued"]
    with working(broker):
        broker.join("default", timeout=10_000)
    assert sorted(ran) == ["finished", "lost", "lost between two runs", "waiting"]
    assert rows("SELECT max(run) FROM pipeline.attempt") == [(2,)]


def test_what_is_claimed_stays_with_its_worker(broker, rows) -> None:
    @dramatiq.actor
    def noop() -> None: ...

    noop.send()
    rows(
        "INSERT INTO pipeline.claim (worker_id, ids, runs, lanes, etas) SELECT 1, ARRAY[id], ARRAY[1], ARRAY[lane_id], "
        "ARRAY[eta] FROM pipeline.ready"
    )
    rows("DELETE FROM pipeline.ready")

    assert ask(tasks.repair_ready, By("ada", "restored")) == 0
    rows("DELETE FROM pipeline.claim")
