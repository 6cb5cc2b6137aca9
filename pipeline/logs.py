"""Logging of a whole process: lines for people or JSON, ours and everybody else's alike, on stderr.

Every line that is written while a task runs carries its id, actor, queue and attempt. A message's arguments are never
written: they may be anybody's data, and Dramatiq puts them into its own lines.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog
from dramatiq import Message
from dramatiq.broker import MessageProxy

from pipeline.context import find_current_task
from pipeline.logger import Line

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

    from pipeline.settings import Settings

#: Says every second what the states of our tasks say better.
_TALKATIVE = ("apscheduler", "dramatiq", "gunicorn.error", "mail.log")
#: How Dramatiq's line about the arguments of a call begins.
_ARGUMENTS = "Received args="


def configure(settings: Settings) -> None:
    """Send everything that is logged in this process to stderr, in the form that was chosen."""
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(hide_arguments)
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
            name_the_task,
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


def name_the_task(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Tell which task this thread or coroutine runs. A processor of structlog, for anybody's own chain, too."""
    task = find_current_task()
    if task is not None:
        line.setdefault("task_id", task.task_id)
        line.setdefault("actor", task.actor)
        line.setdefault("queue", task.queue)
        line.setdefault("attempt", task.attempt)
    return line


def hide_arguments(record: logging.LogRecord) -> bool:
    """Let messages appear in a line by actor and id only, wherever they stand in it. A filter: it keeps every line."""
    record.msg, record.args = without_arguments(record.msg), without_arguments(record.args)
    return True


def drop_arguments(record: logging.LogRecord) -> bool:
    """Keep all lines but that in which Dramatiq tells what an actor was called with. A filter for actors' loggers."""
    return not str(record.msg).startswith(_ARGUMENTS)


def without_arguments(value: Any) -> Any:
    """Name the messages that a value is, or that it holds; not those inside of what it holds."""
    if isinstance(value, Mapping) and any(_is_message(each) for each in value.values()):
        return Line((key, _named(each)) for key, each in value.items())
    if isinstance(value, tuple):
        return tuple(map(_named, value))
    return _named(value)


def _is_message(value: Any) -> bool:
    return isinstance(value, Message | MessageProxy)


def _named(value: Any) -> Any:
    return f"{value.actor_name} {value.message_id}" if _is_message(value) else value
