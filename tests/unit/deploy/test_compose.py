"""compose.yaml, checked against the schema of Compose and against what our processes promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.cli import main
from pipeline.cli.web import STOP_SECONDS
from pipeline.settings import Settings, is_loopback
from pipeline.supervisor import master

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "deploy/compose.yaml"


def complaints(path: Path) -> str:
    """What the schema has to say; empty if nothing."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.fixture(scope="module")
def services() -> dict:
    return YAML(typ="safe").load(COMPOSE)["services"]


def test_it_is_what_compose_understands() -> None:
    assert complaints(COMPOSE) == ""


def test_the_schema_notices_a_misspelt_key(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("depends_on", "dependson"))

    assert "dependson" in complaints(wrong)


@pytest.mark.parametrize("name", ["worker", "scheduler", "web"])
def test_whoever_needs_the_schema_waits_for_it(services: dict, name: str) -> None:
    assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert services["migrate"]["restart"] == "no"


def test_whatever_stays_has_a_health_check(services: dict) -> None:
    staying = {name for name, service in services.items() if service["restart"] != "no"}

    assert staying == {"postgres", "worker", "scheduler", "web"}
    assert all("healthcheck" in services[name] for name in staying)


@pytest.mark.parametrize("name", ["worker", "scheduler", "web"])
def test_each_runs_and_asks_a_program_that_there_is(services: dict, name: str) -> None:
    asked = services[name]["healthcheck"]["test"]

    assert services[name]["command"] == [name]
    assert asked == ["CMD", "pipeline", name, "check"]
    for command in ([name], asked[2:]):
        assert CliRunner().invoke(main, [*command, "--help"]).exit_code == 0


def test_the_web_server_is_reached_in_its_container_and_only_from_this_machine(services: dict) -> None:
    (published,) = services["web"]["ports"]
    own, _, rest = published.partition(":")

    assert is_loopback(own)
    assert int(rest.rpartition(":")[2]) == Settings().http_port
    assert "PIPELINE_HTTP_PORT" not in services["web"]["environment"], "there it stays the default"
    assert not is_loopback(services["web"]["environment"]["PIPELINE_HTTP_HOST"])
    assert services["web"]["environment"]["DATABASE_URL"] == services["worker"]["environment"]["DATABASE_URL"]


def test_a_stopping_worker_has_the_time_it_may_take(services: dict) -> None:
    text = COMPOSE.read_text()
    given = int(services["worker"]["stop_grace_period"].rstrip("s"))
    promised = int(re.search(r"PIPELINE_STOP_SECONDS:-(\d+)", text)[1])  # type: ignore[index]

    assert promised == Settings().stop_seconds
    assert given > promised + master._GRACE_SECONDS


def test_a_stopping_web_server_has_the_time_it_may_take(services: dict) -> None:
    assert int(services["web"]["stop_grace_period"].rstrip("s")) > STOP_SECONDS


def test_images_come_without_a_host_and_with_a_tag(services: dict) -> None:
    foreign = [service["image"] for service in services.values() if "build" not in service]

    assert foreign == ["postgres:17"]
