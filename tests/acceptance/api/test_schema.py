"""The REST API keeps what its document promises, whatever it is sent: schemathesis against a running server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import history
from tests.fixtures.program import ROOT
from tests.fixtures.scale import IS_LONG, choose_seed
from tests.fixtures.web import serving

_EXAMPLES = 200 if IS_LONG else 5
_TOLD = 8_000


@pytest.mark.timeout(1800 if IS_LONG else 180)
@pytest.mark.leaves("claim", "worker")
def test_the_server_keeps_what_the_document_promises(database_url: str, tmp_path: Path) -> None:
    """No 5xx, no status and no content that the document does not name; and what is read leads to what is read next."""
    history.fill(database_url, 300, 100, lambda _: None)
    with serving(database_url) as web:
        run = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{web}/api/v1/openapi.json"),
                *("--checks", "all", "--max-examples", str(_EXAMPLES), "--seed", str(choose_seed())),
                *("--wait-for-schema", "60", "--request-timeout", "30", "--workers", "2", "--no-color"),
            ],
            cwd=tmp_path,  # it writes its examples where it runs
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    assert run.returncode == 0, run.stdout[-_TOLD:] + run.stderr[-_TOLD:]
