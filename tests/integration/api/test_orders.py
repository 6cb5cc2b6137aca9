"""Uploading orders."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.fixtures.database import query

CONTENT = b"Bestellnummer;Kunde;E-Mail;Artikel;Menge;Einzelpreis;Bestelldatum\n"


def upload(client: FlaskClient, content: bytes, name: str = "orders.csv", path: str = "/api/orders/import") -> Any:
    return client.post(path, data={"file": (io.BytesIO(content), name)})


@pytest.mark.parametrize("path", ["/api/orders/import", "/api/orders/import/"])
def test_a_file_and_its_import_exist_together(client: FlaskClient, database_url: str, path: str) -> None:
    answer = upload(client, CONTENT, path=path)

    assert answer.status_code == 202
    task_id = answer.json["task_id"]
    assert answer.headers["Location"] == f"/api/tasks/{task_id}/status/"
    shown = client.get(answer.headers["Location"]).json
    assert (shown["name"], shown["status"]) == ("import_orders", "queued")
    question = "SELECT args->>0 FROM pipeline.task_status WHERE task_id = %s"
    assert query(database_url, question, (task_id,)) == str(answer.json["dataset_id"])
    dataset = f"dataset:{answer.json['dataset_id']}"
    assert query(database_url, "SELECT labels FROM pipeline.task") == {"entity": dataset, "correlation_id": dataset}
    assert bytes(query(database_url, "SELECT content FROM erp.dataset_part")) == CONTENT  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kept"),
    [("Übung 1.csv", "Übung 1.csv"), ("../../etc/passwd", "passwd"), ("mai\tneu.csv", "maineu.csv")],
)
def test_a_file_keeps_the_last_part_of_its_name(client: FlaskClient, database_url: str, name: str, kept: str) -> None:
    assert upload(client, CONTENT, name).status_code == 202
    assert query(database_url, "SELECT name FROM erp.dataset") == kept


def test_a_missing_file_is_explained(client: FlaskClient, problem: Any) -> None:
    for data in ({}, {"file": "just a text"}, {"other": (io.BytesIO(CONTENT), "x.csv")}):
        answer = client.post("/api/orders/import", data=data)
        assert "a part named file" in problem(answer, 400)["detail"]


def test_an_empty_file_is_refused_and_stored_nowhere(client: FlaskClient, database_url: str, problem: Any) -> None:
    assert problem(upload(client, b""), 422)["detail"] == "The file is empty"
    assert query(database_url, "SELECT count(*) FROM erp.dataset") == 0


def test_a_file_above_the_limit_is_refused(client: FlaskClient, database_url: str, problem: Any) -> None:
    problem(upload(client, b"x" * 100_001), 413)
    assert query(database_url, "SELECT count(*) FROM erp.dataset") == 0
