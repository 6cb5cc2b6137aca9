"""Logging: one form for everybody's lines, and nobody's arguments."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from dramatiq import Message
from dramatiq.broker import MessageProxy

from pipeline import logs
from pipeline.context import enter_task
from pipeline.logger import get_logger
from pipeline.settings import Settings

MESSAGE = Message("mail", "send_email", ("secret@example.com",), {"body": "secret"}, {}, "an-id")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., list[Any]]]:
    """Configure logging and return what was written."""
    handlers = logging.getLogger().handlers[:]
    level = logging.getLogger().level

    def configure(**settings: Any) -> Callable[[], list[str]]:
        logs.configure(Settings(**settings))
        return lambda: list(capsys.readouterr().err.splitlines())

    yield configure
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def test_our_lines_and_those_of_others_have_one_form(lines: Any) -> None:
    written = lines(log_format="json")

    get_logger("pipeline.broker").warning("worker.rescued", worker_id=7)
    structlog.get_logger("actors.mail").warning("mail.sent", count=3)
    logging.getLogger("somebody").error("could not %s", "do it")

    ours, an_actors, theirs = map(json.loads, written())
    assert (ours["event"], ours["worker_id"], ours["level"]) == ("worker.rescued", 7, "warning")
    assert (an_actors["event"], an_actors["count"], an_actors["logger"]) == ("mail.sent", 3, "actors.mail")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("could not do it", "somebody", "error")
    for line in (ours, an_actors, theirs):
        assert line.keys() >= {"timestamp", "logger"}
        assert not any(key.startswith("_") for key in line)


@pytest.mark.parametrize("message", [MESSAGE, MessageProxy(MESSAGE)])
@pytest.mark.parametrize("form", ["json", "console"])
def test_arguments_are_never_written(lines: Any, message: Any, form: str) -> None:
    written = lines(log_format=form)

    logging.getLogger("dramatiq.worker").error("Failed to process message %s.", message)

    (line,) = written()
    assert "Failed to process message send_email an-id." in line
    assert "secret" not in line


@pytest.mark.parametrize(
    "log",
    [
        lambda: logging.getLogger("x").error("%(it)s", {"it": MESSAGE}),
        lambda: logging.getLogger("x").error(MESSAGE),
        lambda: structlog.get_logger("x").error("sending", it=MESSAGE),
        lambda: get_logger("x").error("sending", it=MESSAGE),
    ],
    ids=["by name", "as the text", "by structlog", "by ours"],
)
@pytest.mark.parametrize("form", ["json", "console"])
def test_a_message_is_named_wherever_it_stands_in_a_line(lines: Any, log: Any, form: str) -> None:
    written = lines(log_format=form)

    log()

    (line,) = written()
    assert "send_email an-id" in line
    assert "secret" not in line


def test_a_traceback_shows_no_values(lines: Any) -> None:
    written = lines(log_format="console")
    body = "sec" + "ret"
    try:
        body.index("x")
    except ValueError:
        get_logger("x").exception("task.failed")

    text = "\n".join(written())
    assert "ValueError: substring not found" in text
    assert "secret" not in text


TASK = {"task_id": "an-id", "actor": "send_email", "queue": "mail", "attempt": 2}


@contextmanager
def running_task() -> Iterator[None]:
    enter_task(SimpleNamespace(**TASK))  # type: ignore[arg-type]
    try:
        yield
    finally:
        enter_task(None)


@pytest.mark.parametrize("log", [logging.getLogger("actors.mail"), structlog.stdlib.get_logger("actors.mail")])
def test_lines_of_a_task_name_it(lines: Any, log: Any) -> None:
    written = lines(log_format="json")
    with running_task():
        log.warning("slow")
    log.warning("idle")

    inside, outside = map(json.loads, written())
    assert {name: inside[name] for name in TASK} == TASK
    assert not TASK.keys() & outside.keys()


def test_lines_of_a_task_name_it_on_the_console_too(lines: Any) -> None:
    written = lines(log_format="console")
    with running_task():
        logging.getLogger("actors.mail").warning("slow")
    logging.getLogger("actors.mail").warning("idle")

    inside, outside = written()
    assert all(f"{name}={value}" in inside for name, value in TASK.items())
    assert "task_id" not in outside


def test_what_a_line_says_by_itself_is_not_replaced(lines: Any) -> None:
    written = lines(log_format="json")
    with running_task():
        logging.getLogger("actors.mail").warning("sent", extra={"queue": "of the printer"})

    assert json.loads(written()[0])["queue"] == "of the printer"


def test_the_level_counts_and_dramatiq_speaks_only_when_it_matters(lines: Any) -> None:
    written = lines(log_level="INFO", log_format="json")

    for name in ("pipeline.x", "dramatiq.worker"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logging.getLogger(name).log(level, name)

    assert [(line["logger"], line["level"]) for line in map(json.loads, written())] == [
        ("pipeline.x", "info"),
        ("pipeline.x", "warning"),
        ("dramatiq.worker", "warning"),
    ]
