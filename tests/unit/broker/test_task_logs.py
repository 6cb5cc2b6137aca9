"""What is kept of what a task logs, and how much of it."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
import structlog
from dramatiq import Message

from pipeline.broker import task_logs
from pipeline.broker.consumer import TaskProxy
from pipeline.broker.task_logs import TaskLogs
from pipeline.context import CurrentTask, enter_task
from pipeline.logger import get_logger

ENGINE: Any = object()
LIMIT = 4096

logger = logging.getLogger("somebodys.actors")


def make_task(id: int = 7, run: int = 1, engine: Any = ENGINE) -> CurrentTask:
    message: Message[Any] = Message("q", "mail", ("a secret",), {"body": "a secret"}, {}, f"message-{id}")
    proxy = TaskProxy(message, id=id, run=run, attempt=run, lane_id=1, priority=0, eta=0, claim_id=1)
    return CurrentTask(
        task_id=f"message-{id}",
        run=run,
        attempt=run,
        actor="mail",
        queue="q",
        is_transactional=False,
        engine=engine,
        message=proxy,
        options={},
        id=id,
        lane_id=1,
    )


@pytest.fixture
def logs() -> Iterator[TaskLogs]:
    """Listens to everything from INFO on, until the test ends.

    Nobody else hears of lines below WARNING: what other tests have configured would let pytest raise for a wrong line.
    """
    usual = logging.root.level
    logging.root.setLevel(logging.WARNING)
    made = TaskLogs(ENGINE, level="INFO", limit_bytes=LIMIT)
    made.listen()
    yield made
    enter_task(None)
    made.leave()
    logging.root.setLevel(usual)


@pytest.fixture
def task(logs: TaskLogs) -> CurrentTask:
    """The task that this thread runs."""
    made = make_task()
    enter_task(made)
    return made


@pytest.fixture
def written(logs: TaskLogs) -> Callable[[], list[dict[str, Any]]]:
    """Write what is kept, and return it."""

    def write() -> list[dict[str, Any]]:
        texts: list[str] = []
        logs.write_to(texts.append)
        return [line for text in texts for line in json.loads(text)]

    return write


def messages(lines: list[dict[str, Any]]) -> list[str]:
    return [line["m"] for line in lines]


# --- which lines ------------------------------------------------------------------------------------------------------


def test_a_line_is_kept_with_its_run(task: CurrentTask, written: Any) -> None:
    before = time.time()
    logger.warning("%d of %s", 3, "them")

    (line,) = written()
    assert 0 <= line.pop("a") <= time.time() - before + 0.001
    assert line == {"t": 7, "r": 1, "n": 1, "l": 30, "g": "somebodys.actors", "m": "3 of them"}
    assert written() == []


def test_lines_are_numbered_by_run(logs: TaskLogs, written: Any) -> None:
    first = make_task(7, 1)
    for task in (first, first, make_task(7, 2), make_task(8, 1)):
        enter_task(task)
        logger.info("x")

    assert [(line["t"], line["r"], line["n"]) for line in written()] == [(7, 1, 1), (7, 1, 2), (7, 2, 1), (8, 1, 1)]


def test_what_no_task_logs_is_not_kept(logs: TaskLogs, written: Any) -> None:
    logger.error("nobody's")

    assert written() == []


def test_a_task_of_another_worker_in_this_process_is_not_ours(logs: TaskLogs, written: Any) -> None:
    enter_task(make_task(engine=object()))
    logger.error("theirs")

    assert written() == []


def test_lines_about_tasks_are_not_lines_of_tasks(task: CurrentTask, written: Any) -> None:
    for name in ("dramatiq.worker.WorkerThread", "pipeline", "pipeline.broker.hub"):
        logging.getLogger(name).error("about it")
    logging.getLogger("pipelines").error("by it")

    assert messages(written()) == ["by it"]


def test_the_level_counts(task: CurrentTask, written: Any) -> None:
    logger.debug("detail")
    logger.info("said")

    assert messages(written()) == ["said"]


def test_a_thread_that_took_the_context_along_logs_for_the_task_and_another_does_not(
    task: CurrentTask, written: Any
) -> None:
    taken, left = ((lambda text=text: logger.info(text)) for text in ("taken along", "left behind"))
    for thread in (threading.Thread(target=copy_context().run, args=(taken,)), threading.Thread(target=left)):
        thread.start()
        thread.join()

    assert messages(written()) == ["taken along"]


# --- what is kept of them ---------------------------------------------------------------------------------------------


def test_a_traceback_is_kept_without_the_values_of_variables(task: CurrentTask, written: Any) -> None:
    hidden = "sec" + "ret"
    try:
        hidden.index("x")
    except ValueError:
        logger.exception("could not")

    (text,) = messages(written())
    assert text.startswith("could not\nTraceback (most recent call last):\n")
    assert text.endswith("ValueError: substring not found")
    assert "secret" not in text


def test_a_stack_is_kept(task: CurrentTask, written: Any) -> None:
    logger.info("here", stack_info=True)

    assert "test_a_stack_is_kept" in messages(written())[0]


@pytest.mark.parametrize(
    "log",
    [
        lambda message: logger.info("sending %s and %r", message, message),
        lambda message: logger.info("sending %(it)s", {"it": message}),
        lambda message: logger.info(message),
        lambda message: logger.info("sending %d", message),
        lambda message: get_logger("actors.mail").info("sending", message=message),
    ],
    ids=["by place", "by name", "as the text", "wrongly", "as a value"],
)
def test_a_message_is_kept_without_its_arguments(task: CurrentTask, written: Any, log: Any) -> None:
    for message in (task.message, task.message._message):
        log(message)

    texts = messages(written())
    assert len(texts) == 2
    assert "secret" not in str(texts)


def test_the_line_itself_is_left_to_others_as_it_was(task: CurrentTask, logs: TaskLogs) -> None:
    record = logging.makeLogRecord({"name": "x", "levelno": 20, "msg": "%s", "args": (task.message,)})
    logs.handle(record)

    assert record.args == (task.message,)


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("never")

    __repr__ = __str__


def test_a_line_that_cannot_be_put_together_is_kept_as_far_as_it_goes(task: CurrentTask, written: Any) -> None:
    logger.info("%d", "no number")
    logger.info("it is %s", Unspeakable())

    assert messages(written()) == [
        "'%d' (its values cannot be put in: TypeError)",
        "'it is %s' (its values cannot be put in: RuntimeError)",
    ]


def test_nothing_that_is_logged_raises(task: CurrentTask, logs: TaskLogs, written: Any) -> None:
    logger.info(Unspeakable())
    for odd in (
        {"levelno": "high", "name": "x"},
        {"levelno": 20, "name": None},
        {"levelno": 20, "created": "now", "name": "x"},
    ):
        logs.handle(logging.makeLogRecord({"msg": "odd", **odd}))
    logger.info("fine")

    assert messages(written())[-1] == "fine"


@pytest.mark.parametrize("created", [float("nan"), float("inf"), 1e300, -1e300, 0, 4e9])
def test_a_time_that_makes_no_sense_is_now(task: CurrentTask, logs: TaskLogs, written: Any, created: float) -> None:
    logs.handle(logging.makeLogRecord({"name": "x", "levelno": 20, "msg": "x", "created": created}))

    assert [line["a"] for line in written()] == [0]


def test_what_postgresql_cannot_store_is_replaced(task: CurrentTask, logs: TaskLogs, written: Any) -> None:
    # Handed over directly: what else hears it in this process may choke on it.
    for name, text in (("name", "a\0b \ud800"), ("na\0me", "x")):
        logs.handle(logging.makeLogRecord({"name": name, "levelno": logging.INFO, "msg": text}))

    first, second = written()
    assert first["m"] == "a\N{REPLACEMENT CHARACTER}b ?"
    assert "\0" not in second["g"]


def test_a_level_of_ones_own_is_kept(task: CurrentTask, written: Any) -> None:
    logger.log(25, "notice")
    logger.log(1_000_000, "beyond")

    assert [line["l"] for line in written()] == [25, 32_767]


def test_structlog_logs_as_logging_does(task: CurrentTask, written: Any) -> None:
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    try:
        structlog.get_logger("actors.mail").info("mail.sent", count=3)
        try:
            int("no number")
        except ValueError:
            structlog.get_logger("actors.mail").exception("mail.lost")
    finally:
        structlog.reset_defaults()

    first, second = messages(written())
    assert first == "mail.sent count=3"
    assert second.startswith("mail.lost\nTraceback")
    assert second.endswith("invalid literal for int() with base 10: 'no number'")


# --- how much ---------------------------------------------------------------------------------------------------------


def test_a_run_that_logs_too_much_is_told_how_much_is_missing(task: CurrentTask, written: Any) -> None:
    for number in range(1000):
        logger.info("%090d", number)

    lines = written()
    kept, gap = lines[:-1], lines[-1]
    size = sum(len(line["m"]) + len(line["g"]) for line in kept)
    assert LIMIT * 0.7 < size <= LIMIT * 0.75
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))
    assert gap["m"].startswith(f"{1000 - len(kept)} lines from here on are left out")
    assert (gap["l"], gap["r"], gap["t"]) == (30, 1, 7)


def test_the_count_of_what_is_missing_goes_on_in_the_same_line(task: CurrentTask, written: Any) -> None:
    for _ in range(50):
        logger.info("x" * 100)
    first = written()[-1]
    assert written() == []
    for _ in range(1500):
        logger.info("x" * 100)

    (again,) = written()
    assert first["n"] == again["n"]
    assert first["m"].partition(" ")[0] != again["m"].partition(" ")[0] == f"{50 - (first['n'] - 1) + 1500:,}"


def test_what_goes_wrong_after_much_talk_is_kept(task: CurrentTask, written: Any) -> None:
    for _ in range(1000):
        logger.info("x" * 100)
    logger.error("it went wrong")

    lines = written()
    assert "it went wrong" in messages(lines)
    assert lines[-1]["n"] < next(line["n"] for line in lines if line["m"] == "it went wrong")


def test_warnings_have_a_limit_too(task: CurrentTask, written: Any) -> None:
    for _ in range(1000):
        logger.warning("x" * 100)

    assert sum(len(line["m"]) for line in written()[:-1]) <= LIMIT


def test_a_line_for_which_there_is_no_room_is_not_even_put_together(task: CurrentTask, logs: TaskLogs) -> None:
    class Counted:
        times = 0

        def __str__(self) -> str:
            Counted.times += 1
            return "x" * 100

    for _ in range(100_000):
        record = logging.makeLogRecord({"name": "x", "levelno": logging.INFO, "msg": "%s", "args": (Counted(),)})
        logs.handle(record)

    assert Counted.times < LIMIT / 100 + 1


def test_another_run_has_its_own_limit(task: CurrentTask, written: Any) -> None:
    for _ in range(1000):
        logger.info("x" * 100)
    enter_task(make_task(run=2))
    logger.info("hello")

    assert [line["m"] for line in written() if line["r"] == 2] == ["hello"]


def test_a_long_line_keeps_its_beginning_and_its_end(task: CurrentTask, written: Any) -> None:
    logger.info("begin %s end", "ä" * 100_000)

    (text,) = messages(written())
    assert text.startswith("begin ää")
    assert text.endswith("ää end")
    assert " bytes left out) " in text
    assert len(text.encode()) < LIMIT / 4 + 100


def test_a_line_of_the_default_limit_is_eight_kib() -> None:
    logs = TaskLogs(ENGINE, level="INFO", limit_bytes=65_536)

    assert logs._line_bytes == 8192


# --- when they cannot be written --------------------------------------------------------------------------------------


def test_what_could_not_be_written_is_kept_in_its_order(task: CurrentTask, logs: TaskLogs, written: Any) -> None:
    def refuse(_text: str) -> None:
        logger.info("meanwhile")
        raise ConnectionError

    for _ in range(50):
        logger.info("x" * 100)
    with pytest.raises(ConnectionError):
        logs.write_to(refuse)

    numbers = [line["n"] for line in written()]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def test_what_is_missing_is_told_in_the_end_if_it_could_not_be_told_before(
    task: CurrentTask, logs: TaskLogs, written: Any
) -> None:
    def refuse(_text: str) -> None:
        raise ConnectionError

    for _ in range(50):
        logger.info("x" * 100)
    with pytest.raises(ConnectionError):
        logs.write_to(refuse)

    assert "left out" in messages(written())[-1]


def test_lines_are_bounded_while_they_cannot_be_written(
    logs: TaskLogs, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_logs, "_MOST_LINES", 10)
    for run in range(1, 21):
        enter_task(make_task(run=run))
        logger.info("x")

    lines = written()
    assert [line["r"] for line in lines if line["m"] == "x"] == list(range(1, 11))
    assert sorted(line["r"] for line in lines if "left out" in line["m"]) == list(range(11, 21))


def test_many_lines_are_written_by_few_statements(
    logs: TaskLogs, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_logs, "_BATCH_LINES", 10)
    for run in range(25):
        enter_task(make_task(run=run))
        logger.info("x")
    texts: list[str] = []
    logs.write_to(texts.append)

    assert [len(json.loads(text)) for text in texts] == [10, 10, 5]


def test_threads_that_log_for_one_run_get_different_numbers(task: CurrentTask, written: Any) -> None:
    logs_of_each = 20
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=copy_context().run, args=(lambda: [logger.info("x") for _ in range(logs_of_each)],))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    numbers = [line["n"] for line in written()]
    assert len(set(numbers)) == len(numbers) == 8 * logs_of_each


def test_a_task_that_logs_nothing_leaves_nothing(task: CurrentTask, written: Any) -> None:
    assert written() == []
    assert "log" not in vars(task.message)
