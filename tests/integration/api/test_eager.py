"""The application with PIPELINE_EAGER: a request does the work of its tasks, after its commit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pipeline.settings import environment
from tests.fixtures.database import query
from tests.fixtures.tokens import make_token

ROOT = Path(__file__).parents[3]

PROGRAM = """
import io
import sys

from actors.demo import write_orders
from actors.models import create_tables
from api.app import create_app
from pipeline.settings import get_settings

create_tables(get_settings().database_url)
file = io.BytesIO()
write_orders(file, 3, "t")
file.seek(0)
client = create_app(get_settings()).test_client()
headers = {"Authorization": f"Bearer {sys.argv[1]}"}
answer = client.post("/api/orders/import", data={"file": (file, "orders.csv")}, headers=headers)
sys.stdout.write(f"{answer.status_code} {answer.text}")
"""


def test_an_import_is_done_when_its_request_is_answered(database_url: str, tmp_path: Path) -> None:
    variables = environment(database_url=database_url, eager=1, eager_propagates=0) | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, make_token(database_url)]
    done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.stdout.startswith("202 "), done.stdout + done.stderr
    # Three orders booked and their invoices issued; the mails failed for want of a mail server, and nobody was hurt.
    assert query(database_url, "SELECT count(*) FROM erp.invoice WHERE document IS NOT NULL") == 3
    assert query(database_url, "SELECT count(*) FROM pipeline.task") == 0
    assert done.stderr.count("task.failed") == 3, done.stderr
