"""The systemd units, checked by systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from pipeline.cli.web import STOP_SECONDS
from pipeline.settings import Settings
from pipeline.supervisor import master
from pipeline.supervisor.plan import EXIT_UNUSABLE

UNITS = sorted((Path(__file__).parents[3] / "deploy/systemd").glob("*.service"))
#: Where the program is after an installation by the book; systemd looks whether it is there.
PROGRAM = "/opt/pipeline/bin/pipeline"
#: systemd's own scale goes from 0 to 10.
EXPOSURE = 5.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: nobody else can judge a unit"
)


def read(name: str) -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(next(path for path in UNITS if path.name == name))
    return unit


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """Copies of the units whose program exists."""
    copies = []
    for unit in UNITS:
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    return copies


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_has_nothing_to_say_about_them(installed: list[Path]) -> None:
    done = analyze("verify", "--man=no", *installed)

    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_says_so_when_a_key_is_misspelt(installed: list[Path]) -> None:
    """It exits with 0 all the same, which is why the test above looks at its words."""
    installed[0].write_text(installed[0].read_text().replace("WorkingDirectory=", "WorkDirectory="))

    assert "WorkDirectory" in analyze("verify", "--man=no", installed[0]).stderr


@needs_systemd
@pytest.mark.parametrize("name", [unit.name for unit in UNITS])
def test_little_is_exposed(installed: list[Path], name: str) -> None:
    unit = next(path for path in installed if path.name == name)

    done = analyze("security", "--offline=true", "--no-pager", unit)

    found = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < EXPOSURE


def test_there_is_a_unit_for_the_schema_the_scheduler_the_api_and_the_workers() -> None:
    names = ("migrate", "scheduler", "web", "worker")
    assert [unit.name for unit in UNITS] == [f"pipeline-{name}.service" for name in names]


@pytest.mark.parametrize("name", [unit.name for unit in UNITS])
def test_they_run_the_program_as_nobody_special_and_read_the_same_file(name: str) -> None:
    service = read(name)["Service"]

    assert service["ExecStart"].split()[0] == PROGRAM
    assert service["User"] == "pipeline"
    assert service["EnvironmentFile"] == "/etc/pipeline/environment"


def test_a_stopping_worker_has_the_time_it_may_take() -> None:
    service = read("pipeline-worker.service")["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"].rstrip("s")) > Settings().stop_seconds + master._GRACE_SECONDS


def test_a_stopping_web_server_has_the_time_it_may_take() -> None:
    """And SIGTERM goes to gunicorn alone, which tells its processes."""
    service = read("pipeline-web.service")["Service"]

    assert service["KillMode"] == "mixed"
    assert int(service["TimeoutStopSec"].rstrip("s")) > STOP_SECONDS


@pytest.mark.parametrize("name", ["worker", "scheduler", "web"])
def test_they_start_after_the_schema_and_do_not_depend_on_it(name: str) -> None:
    unit = read(f"pipeline-{name}.service")["Unit"]

    assert "pipeline-migrate.service" in unit["After"].split()
    assert "pipeline-migrate.service" in unit["Wants"].split()
    assert "Requires" not in unit


def test_what_cannot_work_is_not_started_for_ever() -> None:
    service = read("pipeline-worker.service")["Service"]

    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"].split() == ["2", str(EXIT_UNUSABLE)]
    for name in ("scheduler", "web"):
        assert read(f"pipeline-{name}.service")["Service"]["RestartPreventExitStatus"] == "2"
