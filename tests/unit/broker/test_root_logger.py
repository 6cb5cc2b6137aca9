"""Listening to everything, without changing what the process's own log shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipeline.broker.root_logger import Listener


class Kept(logging.Handler):
    """Somebody's handler, and the texts that it got."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class Heard(Listener):
    """A listener, and the texts that it heard."""

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self.texts: list[str] = []

    def handle(self, record: logging.LogRecord) -> bool:
        self.texts.append(record.getMessage())
        self.stand_in(record)
        return True


@pytest.fixture
def heard() -> Iterator[Heard]:
    """A listener at INFO; it leaves at the end."""
    listener = Heard()
    yield listener
    listener.leave()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger; its level is WARNING at first."""
    level = logging.root.level
    logging.root.setLevel(logging.WARNING)
    yield logging.root
    logging.root.setLevel(level)


@contextmanager
def alone(*handlers: logging.Handler) -> Iterator[None]:
    """Let the root logger have these handlers only: not pytest's, which come back for each test."""
    before = logging.root.handlers[:]
    logging.root.handlers[:] = handlers
    try:
        yield
    finally:
        logging.root.handlers[:] = before


@pytest.fixture
def kept(root: logging.Logger) -> Iterator[Kept]:
    """What the process's own log shows."""
    own = Kept()
    root.addHandler(own)
    yield own
    root.removeHandler(own)


@pytest.fixture
def logger(request: pytest.FixtureRequest) -> Iterator[logging.Logger]:
    """A logger that only this test knows, below another one."""
    made = logging.getLogger(f"somebodys.{request.node.name}")
    yield made
    for each in (made, logging.getLogger("somebodys")):
        each.setLevel(logging.NOTSET)
        each.handlers[:] = []
        each.propagate = True


def test_a_line_below_the_roots_level_is_heard_and_the_own_log_does_not_show_it(
    kept: Kept, heard: Heard, logger: logging.Logger
) -> None:
    heard.listen()
    logger.info("quiet")
    logger.warning("loud")
    logger.debug("nothing")

    assert heard.texts == ["quiet", "loud"]
    assert kept.texts == ["loud"]


def test_a_handler_of_some_logger_gets_no_more_than_without_us(
    kept: Kept, heard: Heard, logger: logging.Logger
) -> None:
    below = Kept()
    logging.getLogger("somebodys").addHandler(below)
    heard.listen()
    logger.info("quiet")
    logger.warning("loud")

    assert below.texts == kept.texts == ["loud"]


def test_what_a_logger_of_its_own_level_lets_through_is_shown_as_before(
    kept: Kept, heard: Heard, logger: logging.Logger
) -> None:
    logging.getLogger("somebodys").setLevel(logging.DEBUG)
    heard.listen()
    logger.debug("detail")
    logger.info("quiet")

    assert kept.texts == ["detail", "quiet"]
    assert heard.texts == ["quiet"]


def test_a_logger_that_was_silenced_stays_silent(kept: Kept, heard: Heard, logger: logging.Logger) -> None:
    logger.setLevel(logging.ERROR)
    heard.listen()
    logger.warning("not wanted")

    assert heard.texts == kept.texts == []


def test_everything_is_as_it_was_when_nobody_listens_any_more(
    root: logging.Logger, kept: Kept, heard: Heard, logger: logging.Logger
) -> None:
    with alone(kept):
        heard.listen()
        assert root.level == logging.INFO
        heard.leave()
        logger.info("quiet")

        assert (root.level, type(root.level), root.handlers, kept.filters) == (logging.WARNING, int, [kept], [])
    assert kept.texts == heard.texts == []


@pytest.mark.parametrize("leaves_first", [0, 1])
def test_two_listeners_leave_in_any_order(
    root: logging.Logger, kept: Kept, logger: logging.Logger, leaves_first: int
) -> None:
    both = [Heard(logging.DEBUG), Heard(logging.INFO)]
    for each in both:
        each.listen()
    assert root.level == logging.DEBUG

    both[leaves_first].leave()
    logger.info("quiet")
    assert root.level == both[1 - leaves_first].level
    both[1 - leaves_first].leave()

    assert (root.level, kept.filters, kept.texts) == (logging.WARNING, [], [])
    assert both[1 - leaves_first].texts == ["quiet"]


def test_whoever_sets_another_level_meanwhile_gets_what_he_asked_for(
    root: logging.Logger, kept: Kept, heard: Heard, logger: logging.Logger
) -> None:
    heard.listen()
    root.setLevel(logging.INFO)
    logger.info("wanted now")
    heard.leave()

    assert kept.texts == ["wanted now"]
    assert root.level == logging.INFO


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_a_host_that_configures_its_logging_anew_is_listened_to_again(
    root: logging.Logger, heard: Heard, logger: logging.Logger, level: int
) -> None:
    heard.listen()
    own = Kept()
    logging.basicConfig(handlers=[own], level=level, force=True)
    logger.info("lost")
    heard.listen()
    logger.info("heard")
    logger.error("both")

    assert heard.texts == ["heard", "both"]
    assert own.texts == ["both"]


def test_listening_again_and_again_changes_nothing(root: logging.Logger, kept: Kept, heard: Heard) -> None:
    with alone(kept):
        heard.listen()
        level = root.level
        for _ in range(3):
            heard.listen()

        assert root.level is level
        assert (root.handlers, len(kept.filters)) == ([kept, heard], 1)


def test_a_program_that_configured_nothing_still_sees_warnings_once(
    root: logging.Logger, heard: Heard, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone():
        for each in (heard, other := Heard()):
            each.listen()
        logger.info("quiet")
        logger.warning("loud")
        other.leave()

    assert capsys.readouterr().err == "loud\n"


def test_a_line_that_somebody_shows_is_not_shown_again(
    root: logging.Logger, heard: Heard, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone():
        heard.listen()
        logger.addHandler(own := Kept())
        logger.warning("loud")

    assert own.texts == ["loud"]
    assert capsys.readouterr().err == ""


def test_a_line_made_by_hand_is_heard(kept: Kept, heard: Heard) -> None:
    heard.listen()
    logging.root.handle(logging.makeLogRecord({"name": "nobodys", "levelno": logging.INFO, "msg": "by hand"}))

    assert heard.texts == ["by hand"]
    assert kept.texts == []
