"""Our loggers in somebody else's program: they write where its logging says, whatever it knows of structlog."""

import logging
import subprocess
import sys

import pytest

from pipeline.logger import get_logger

NAME = "pipeline.test_logger"


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_a_program_that_configured_nothing_sees_warnings_on_stderr_alone() -> None:
    program = (
        "from pipeline.logger import get_logger\n"
        "log = get_logger('pipeline.x')\n"
        "log.info('worker.started', worker_id=7)\n"
        "log.warning('worker.rescued', worker_id=7, reason='gone')\n"
    )

    result = run(program)

    assert (result.stdout, result.stderr) == ("", "worker.rescued worker_id=7 reason='gone'\n")


def test_a_line_goes_to_the_handlers_of_the_host(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=NAME):
        get_logger(NAME).info("worker.started", worker_id=7)
        get_logger(NAME).debug("worker.detail")

    assert [(each.name, each.levelno, each.getMessage()) for each in caplog.records] == [
        (NAME, logging.INFO, "worker.started worker_id=7")
    ]


def test_a_plain_handler_shows_the_traceback_once(caplog: pytest.LogCaptureFixture) -> None:
    try:
        [].index(1)
    except ValueError:
        get_logger(NAME).exception("hub.failed", worker_id=7)

    (record,) = caplog.records
    assert record.getMessage() == "hub.failed worker_id=7"
    assert caplog.text.count("ValueError: 1 is not in list") == 1


def test_a_host_that_uses_structlog_gets_the_values() -> None:
    program = (
        "import logging, structlog\n"
        "from pipeline.logger import get_logger\n"
        "handler = logging.StreamHandler()\n"
        "render = structlog.processors.JSONRenderer(sort_keys=True)\n"
        "meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta\n"
        "handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[meta, render]))\n"
        "logging.basicConfig(handlers=[handler])\n"
        "get_logger('pipeline.x').warning('worker.rescued', worker_id=7)\n"
    )

    assert run(program).stderr == '{"event": "worker.rescued", "worker_id": 7}\n'
