"""The REST API keeps what its document promises, whatever it is sent: schemathesis against a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api import document
from tests.benchmarks import history
from tests.fixtures.database import query
from tests.fixtures.program import ROOT
from tests.fixtures.scale import IS_LONG, choose_seed
from tests.fixtures.tokens import make_token
from tests.fixtures.web import serving

_EXAMPLES = 200 if IS_LONG else 2
_TOLD = 8_000


#: What no schema can tell: that an actor or a queue is known, that two fields go together, that an ETag is the last one.
#: Beside `/tasks/{task_id}` and its like, a word that is a command to POST is the name of a thing to other methods.
CONFIGURATION = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "412", "422", "429", "5xx"]

[[operations]]
include-path-regex = "/(tasks|workers|schedules|gates/{gate})/(cancel|retry|snooze|reschedule|reprioritise|move|drain|preview|pause|resume)$"
checks.allow_header_conformance.enabled = false
checks.unsupported_method.enabled = false
"""


def for_machines(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out what no schema can tell from what is refused: a cursor that we have signed from one that somebody made up.

    And what takes its time: streams, which do not end, and waiting for a change. All of them have tests of their own.
    """
    content["paths"] = {path: item for path, item in content["paths"].items() if not path.endswith("/events")}
    for item in content["paths"].values():
        for operation in item.values():
            parameters = operation.get("parameters", [])
            operation["parameters"] = [each for each in parameters if each["name"] not in {"cursor", "wait"}]
    return content


@pytest.mark.timeout(1800 if IS_LONG else 400)
@pytest.mark.leaves("claim", "worker")
def test_the_server_keeps_what_the_document_promises(database_url: str, tmp_path: Path) -> None:
    """No 5xx, no status and no content that the document does not name; and what is read leads to what is read next."""
    history.fill(database_url, 300, 100, lambda _: None)
    query(
        database_url,
        """SELECT pipeline.register_actors_v1('[{"name": "actor_1", "queue": "queue_0", "priority": 0}]')""",
    )
    query(database_url, "SELECT pipeline.pause_gate_v1('tenant:tenant_7', 'eve', '', NULL, 'sql')")
    (tmp_path / "openapi.json").write_text(json.dumps(for_machines(document.made())))
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    token = make_token(database_url, "admin")
    with serving(database_url, tmp_path) as web:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", web.address),
                *("--max-examples", str(_EXAMPLES), "--seed", str(choose_seed())),
                *("-H", f"Authorization: Bearer {token}"),
                *("--request-timeout", "30", "--workers", "2", "--no-color"),
            ],
            cwd=tmp_path,  # it writes its examples where it runs
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    (tmp_path / "found.txt").write_text(run.stdout)
    found = run.stdout.partition("= FAILURES =")[2] or run.stdout
    assert run.returncode == 0, f"{found[:_TOLD]}\n{run.stderr[-_TOLD:]}\nall of it: {tmp_path / 'found.txt'}"
