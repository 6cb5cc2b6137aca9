from importlib.metadata import EntryPoint

import click
import pytest
from click.testing import CliRunner

import pipeline.cli
from pipeline.cli import COMMANDS, main
from pipeline.cli.web import address_of
from pipeline.errors import LeaseLost


@click.command()
def hello() -> None:
    """Say hello."""
    click.echo("hello")


@pytest.fixture
def plugin(monkeypatch):
    """Install a package with a command."""

    def install(name, target):
        found = [EntryPoint(name, target, "pipeline.commands")]
        monkeypatch.setattr(pipeline.cli, "entry_points", lambda **_group: found)
        monkeypatch.setattr("pipeline.cli.environment.use_running_database", lambda: click.echo("on a database"))

    return install


def test_every_command_has_its_place_and_its_help():
    for name in COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0
        assert result.output.startswith(f"Usage: main {name}")


def test_commands_of_others_are_listed_without_being_imported(plugin):
    plugin("greet", "no_such_module:command")

    result = CliRunner().invoke(main, ["--help"])

    assert "greet    (from no_such_module)" in result.output


def test_commands_of_others_run_on_a_database_that_runs(plugin):
    plugin("greet", f"{__name__}:hello")
    assert CliRunner().invoke(main, ["greet", "--help"]).output.startswith("Usage: main greet")
    for _ in range(2):
        assert CliRunner().invoke(main, ["greet"]).output == "on a database\nhello\n"


def test_nobody_replaces_a_command_of_ours(plugin):
    plugin("worker", f"{__name__}:hello")
    assert "Run the actors" in CliRunner().invoke(main, ["worker", "--help"]).output


def test_workers_are_run_looked_at_and_drained_by_one_command():
    told = CliRunner().invoke(main, ["worker", "--help"]).output

    assert "--max-memory-mb" in told
    assert all(f"\n  {name} " in told for name in ("run", "list", "drain", "check"))


@pytest.mark.parametrize("arguments", [["-p", "0"], ["some_module", "-p", "0"], ["run", "list", "-p", "0"]])
def test_what_is_no_command_about_workers_is_a_module_to_run(arguments):
    result = CliRunner().invoke(main, ["worker", *arguments])

    assert (result.exit_code, "worker run" in result.output, "'-p'" in result.output) == (2, True, True)


@pytest.mark.parametrize(
    "arguments", [["--processes", "0"], ["--port", "65536"], ["elsewhere"], ["check", "--threads", "1"]]
)
def test_what_is_wrong_for_a_web_server_is_wrong_usage(arguments):
    assert CliRunner().invoke(main, ["web", *arguments]).exit_code == 2


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),  # noqa: S104 - just a text
        ("::", "http://[::1]:8000"),
        ("erp.example", "http://erp.example:8000"),
    ],
)
def test_a_web_server_that_listens_everywhere_is_asked_here(host, address):
    assert address_of(host, 8000) == address


@pytest.mark.parametrize("arguments", [[], ["1", "--all"], ["--all", "--host", "x"], ["0"], ["one"]])
def test_workers_to_drain_are_named_in_one_way(arguments):
    assert CliRunner().invoke(main, ["worker", "drain", *arguments]).exit_code == 2


def test_an_unknown_command_is_wrong_usage():
    assert CliRunner().invoke(main, ["wroker"]).exit_code == 2


@click.command()
def break_down() -> None:
    """Fail."""
    raise LeaseLost


def test_errors_are_a_line_or_everything(plugin):
    plugin("break", f"{__name__}:break_down")

    short = CliRunner().invoke(main, ["break"])
    assert (short.exit_code, short.output.splitlines()[-1][:7]) == (1, "Error: ")
    assert isinstance(CliRunner().invoke(main, ["--debug", "break"]).exception, LeaseLost)
