"""Many who watch and many who ask, while tasks run: everybody is served, and nothing is left behind."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import PostgresBroker
from pipeline.settings import Settings
from tests.fixtures import live_actors
from tests.fixtures.database import query
from tests.fixtures.live_web import Web, ask, serving
from tests.fixtures.program import ROOT, children_of, environment_of, running
from tests.fixtures.scale import IS_LONG, tell
from tests.fixtures.wait import eventually

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
LISTENERS = f"{SESSIONS} AND application_name = 'pipeline live'"
ENDED = "SELECT count(*) FROM pipeline.attempt"

#: So many who watch, who ask, for so long, while so many tasks a second run.
STREAMS, POLLERS, SECONDS, RATE = (100, 50, 60, 1000) if IS_LONG else (10, 5, 4, 200)
#: The 99th percentile of answers. In the small size it is no promise, for other tests run beside.
P99_SECONDS = 0.1 if IS_LONG else 2.0
REST_SECONDS = 1.0 if IS_LONG else 0.2


@contextmanager
def fed(url: str) -> Iterator[None]:
    """Send so many tasks each second, for the length of a block."""
    is_over = threading.Event()

    def feed() -> None:
        with closing(PostgresBroker(settings=Settings(database_url=url))) as broker:
            broker.declare_queue("quick")
            due, portion = time.monotonic(), RATE // 10
            while not is_over.wait(max(0.0, due - time.monotonic())):
                broker.send_many(live_actors.pass_by.message(number) for number in range(portion))
                due += 0.1

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        is_over.set()
        feeder.join(30)


def loaded(web: Web, task_id: str) -> Any:
    """Let many clients watch and ask; return what they met."""
    paths = [f"/api/v1/tasks/{task_id}", "/api/v1/queues", "/api/v1/tasks", f"/api/tasks/{task_id}/status/"]
    wanted = {
        "address": web.address,
        "streams": STREAMS,
        "pollers": POLLERS,
        "seconds": SECONDS,
        "rest_seconds": REST_SECONDS,
        "paths": paths,
    }
    command = [sys.executable, "-m", "tests.fixtures.load_clients", json.dumps(wanted)]
    done = subprocess.run(command, cwd=ROOT, env=environment_of(), capture_output=True, timeout=SECONDS + 60)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def files_of(web: Web) -> int:
    """Count the open files of the process that serves."""
    assert web.process is not None
    (server,) = children_of(web.process.pid)
    return len(list(Path(f"/proc/{server}/fd").iterdir()))


@pytest.mark.stress
@pytest.mark.timeout(SECONDS + 120)
def test_many_who_watch_hold_up_nobody_who_asks(database_url: str, tmp_path: Path) -> None:
    threads = 2 * STREAMS + POLLERS
    with (
        serving(database_url, tmp_path, threads=threads) as web,
        running(
            tmp_path, "worker", "-p", "1", "-t", "8", "tests.fixtures.live_actors", database_url=database_url
        ) as worker,
        fed(database_url),
    ):
        task_id = str(
            eventually(lambda: query(database_url, "SELECT message_id FROM pipeline.task LIMIT 1"), within=20)
        )
        assert eventually(lambda: ask(f"{web.address}/readyz")[0] == 200, within=20)
        eventually(lambda: query(database_url, ENDED), within=30)
        files, ended, began = files_of(web), int(str(query(database_url, ENDED))), time.monotonic()

        found = loaded(web, task_id)

        took = sorted(seconds for poller in found["pollers"] for seconds in poller["took"])
        p50, p99 = statistics.median(took), took[int(0.99 * len(took))]
        rate = (int(str(query(database_url, ENDED))) - ended) / (time.monotonic() - began)
        silence = max(stream["longest_silence"] for stream in found["streams"])
        first = max(stream["first_after"] or SECONDS for stream in found["streams"])
        events = [stream["events"] for stream in found["streams"]]
        tell(
            f"{STREAMS} streams, {POLLERS} pollers, {SECONDS} s: {rate:.0f} tasks/s ran; {len(took)} answers, p50 {1000 * p50:.1f} ms,"
            f" p99 {1000 * p99:.1f} ms, slowest {1000 * took[-1]:.1f} ms; first event within {first:.2f} s, {min(events)} to"
            f" {max(events)} events each, at most {silence:.2f} s apart"
        )
        assert [wrong for poller in found["pollers"] for wrong in poller["wrong"]] == []
        assert {stream["status"] for stream in found["streams"]} == {"200"}
        assert not any(stream["has_ended"] for stream in found["streams"])
        assert min(len(poller["took"]) for poller in found["pollers"]) >= 0.5 * SECONDS / (REST_SECONDS + P99_SECONDS)
        assert silence < 5
        assert p99 < P99_SECONDS

        eventually(lambda: query(database_url, LISTENERS) == 0, within=10)
        eventually(lambda: files_of(web) <= files + 20, within=10)  # the sessions of its pool
        worker.signal(signal.SIGTERM)
        worker.end()
        web.stop()
        assert "Traceback" not in web.output
