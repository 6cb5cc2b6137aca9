"""``pipeline up``: one command from an empty directory to invoices in the mail."""

import json
import os
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.fixtures.program import Program, children_of, is_alive, running
from tests.fixtures.wait import eventually

HEADER = "Bestellnummer;Kunde;E-Mail;Artikel;Menge;Einzelpreis;Bestelldatum"
ORDER = "B-{number};Müller & Söhne;kunde{number}@firma.example;A-1001;2;1.234,50;31.12.2026"
#: The machine may be busy: five programs and a database start at once.
PATIENCE = 60


@pytest.fixture
def taken_port() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def ask(url: str, data: bytes | None = None, **headers: str) -> Any:
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own address
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def upload(url: str, content: bytes) -> Any:
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="orders.csv"\r\n\r\n'
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return ask(url, body, **{"Content-Type": f"multipart/form-data; boundary={boundary}"})


def address(up: Program) -> str:
    up.says("Web ", within=PATIENCE)
    found = re.search(r"http://127\.0\.0\.1:\d+", up.output)
    assert found, up.output
    return found[0]


def descendants(pid: int) -> list[int]:
    return [process for child in children_of(pid) for process in (child, *descendants(child))]


@pytest.mark.timeout(240)
def test_one_command_runs_everything_and_leaves_nothing_behind(tmp_path: Path, taken_port: int) -> None:
    data = tmp_path / "var"
    with running(tmp_path, "up", "--port", str(taken_port), data_dir=data, processes=1, threads=4) as up:
        url = address(up)
        assert f"(port {taken_port} is taken)" in up.output
        assert f":{taken_port}" not in url

        content = "\n".join([HEADER, *(ORDER.format(number=number) for number in range(5))])
        task_id = upload(f"{url}/api/orders/import", content.encode())["task_id"]

        eventually(lambda: ask(f"{url}/api/tasks/{task_id}/status/")["status"] == "succeeded", within=PATIENCE)
        eventually(lambda: len(list((data / "mail").glob("*.eml"))) == 5, within=PATIENCE)
        assert ask(f"{url}/api/tasks/{task_id}/status/")["result"]["orders"] == 5
        assert ask(f"{url}/readyz") == {"status": "ready", "workers": 1}
        up.says("scheduler.started", within=PATIENCE)

        everybody = descendants(up.process.pid)
        up.signal(signal.SIGINT)
        assert up.end(within=PATIENCE) == 0
        eventually(lambda: not any(map(is_alive, everybody)))


@pytest.mark.timeout(240)
def test_nothing_outlives_a_killed_up(tmp_path: Path) -> None:
    with running(tmp_path, "up", data_dir=tmp_path / "var", processes=1, threads=1) as up:
        url = address(up)
        eventually(lambda: ask(f"{url}/readyz")["workers"] == 1, within=PATIENCE)
        everybody = descendants(up.process.pid)
        # PostgreSQL, mail catcher, worker and its process, scheduler, web server and its process
        assert len(everybody) >= 7

        up.signal(signal.SIGKILL)

        eventually(lambda: not any(map(is_alive, everybody)), within=20)


@pytest.mark.timeout(240)
@pytest.mark.leaves("worker", "claim")
def test_a_program_that_ends_by_itself_ends_all(tmp_path: Path, database_url: str) -> None:
    settings = {"database_url": database_url, "data_dir": tmp_path / "var", "processes": 1, "threads": 1}
    with running(tmp_path, "up", **settings) as up:
        up.says("worker.started", within=PATIENCE)
        everybody = descendants(up.process.pid)
        (worker,) = [pid for pid in children_of(up.process.pid) if "pipeline.cli worker" in command_of(pid)]

        os.kill(worker, signal.SIGKILL)

        assert up.end(within=PATIENCE) == 128 + signal.SIGKILL
        assert "The worker ended by itself (SIGKILL), so everything stops." in up.output
        eventually(lambda: not any(map(is_alive, everybody)))
        assert not (tmp_path / "var" / "postgres").exists(), "a given database is used, none is started"


@pytest.mark.timeout(240)
def test_a_database_that_ends_by_itself_ends_all(tmp_path: Path) -> None:
    """Or all would wait for a server that nobody starts again."""
    with running(tmp_path, "up", data_dir=tmp_path / "var", processes=1, threads=1) as up:
        up.says("worker.started", within=PATIENCE)
        everybody = descendants(up.process.pid)
        (postmaster,) = [pid for pid in everybody if re.search(r"bin/postgres ", command_of(pid))]

        os.kill(postmaster, signal.SIGKILL)

        assert up.end(within=PATIENCE) == 128 + signal.SIGKILL
        assert "The database ended by itself (SIGKILL), so everything stops." in up.output
        eventually(lambda: not any(map(is_alive, everybody)))


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
