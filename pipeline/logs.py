"""Logging of a whole process: lines for people or JSON, ours and everybody else's alike, on stderr.

Every line that is written while a task runs carries its id and attempt. A message's arguments are never written: they
may be anybody's data, and Dramatiq puts them into its own lines.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Message
from dramatiq.broker import MessageProxy

from pipeline.context import find_current_task

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from pipeline.settings import Settings

#: Says every second what the states of our tasks say better.
_TALKATIVE = ("dramatiq", "gunicorn.error", "mail.log")


def configure(settings: Settings) -> None:
    """Send everything that is logged in this process to stderr, in the form that was chosen."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_hide_arguments)
    handler.setFormatter(_formatter(settings))
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel("DEBUG" if settings.log_level == "DEBUG" else "WARNING")


def _formatter(settings: Settings) -> structlog.stdlib.ProcessorFormatter:
    """Complete every line, wherever it comes from, and write it."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _name_the_task,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *_renderers(settings),
        ],
    )


def _renderers(settings: Settings) -> list[Processor]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    # Without the values of local variables, which would show a task's arguments.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain, pad_event_to=24)]


def _name_the_task(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Tell which task this thread runs."""
    task = find_current_task()
    if task is not None:
        line.setdefault("task_id", task.task_id)
        line.setdefault("attempt", task.attempt)
    return line


def _hide_arguments(record: logging.LogRecord) -> bool:
    """Let messages appear in other people's lines by actor and id only."""
    if isinstance(record.args, tuple):
        record.args = tuple(_named(argument) for argument in record.args)
    return True


def _named(value: Any) -> Any:
    return f"{value.actor_name} {value.message_id}" if isinstance(value, Message | MessageProxy) else value
