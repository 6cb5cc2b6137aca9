"""What tasks log while they run, kept for the caretaker, who writes it to the database once a second.

A line belongs to the run whose task is the current one where it is logged: in the thread of the run, in the coroutines
it awaits, and wherever else its context was taken along. Lines of Dramatiq and of this package are not kept: what they
say of a run is in its attempt. Nothing here raises or waits, and there is no lock that an interrupted task could keep.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.broker.outcome import clean
from pipeline.broker.root_logger import Listener
from pipeline.context import find_current_task
from pipeline.logger import Line
from pipeline.logs import without_arguments

if TYPE_CHECKING:
    from pipeline.broker.consumer import TaskProxy

#: The longest line that is kept whole, in bytes; a quarter of a run's limit, if that is less.
_LINE_BYTES = 8192
#: Which part of a run's limit lines below WARNING may take: what goes wrong in the end is not left out for them.
_QUIET_SHARE = 0.75
#: Lines that are kept while they cannot be written; each run has its limit as well.
_MOST_LINES = 20_000
#: Lines that are written by one statement.
_BATCH_LINES = 5_000
#: Older lines, and those of the future, were made by hand, or the machine's clock was set meanwhile.
_OLDEST_SECONDS = 30 * 86_400
#: What a smallint holds.
_HIGHEST_LEVEL = 32_767
#: Whose lines are about tasks, not by them.
_MACHINERY = ("dramatiq", "pipeline")


class RunLog:
    """What one run has logged so far."""

    def __init__(self, id: int, run: int) -> None:
        self.id = id
        self.run = run
        self.numbers = count(1)
        self.bytes = 0
        #: Lines below this level are left out, since there is no room for them.
        self.least = 0
        self.left_out = 0
        #: Where in the log the first line was left out: its number and its time.
        self.gap: tuple[int, float] | None = None

    def leave_out(self, created: float) -> None:
        """Count a line for which there is no room."""
        if self.gap is None:
            self.gap = next(self.numbers), created
        self.left_out += 1


class _Kept(NamedTuple):
    """One line, as the table has it."""

    id: int
    run: int
    number: int
    created: float
    level: int
    logger: str
    message: str

    def as_dict(self, now: float) -> dict[str, Any]:
        """Write it for ``write_logs_v1``, which goes by the database's clock. It refuses nothing that stands here."""
        age = now - self.created
        return {
            "t": self.id,
            "r": self.run,
            "n": self.number,
            "a": round(age, 6) if 0 <= age < _OLDEST_SECONDS else 0,
            "l": self.level,
            "g": self.logger,
            "m": self.message,
        }


class TaskLogs(Listener):
    """Keeps what the tasks of one worker log."""

    def __init__(self, engine: object, *, level: str, limit_bytes: int) -> None:
        super().__init__(level)
        self._engine = engine
        self._limit_bytes = limit_bytes
        self._line_bytes = min(_LINE_BYTES, limit_bytes // 4)
        self._lines: deque[_Kept] = deque()
        #: Runs some of whose lines were left out since that was last written.
        self._short: set[RunLog] = set()

    # --- where tasks run ----------------------------------------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep a line if a task of this worker has logged it. Without the lock that other handlers take."""
        task = find_current_task()
        if task is not None and task.engine is self._engine:
            with suppress(Exception):  # whatever a record made by hand may hold
                self._keep(task.message, record)
        self.stand_in(record)
        return True

    def _keep(self, proxy: TaskProxy, record: logging.LogRecord) -> None:
        if _is_machinery(record.name):
            return
        log = proxy.log or vars(proxy).setdefault("log", RunLog(proxy.id, proxy.run))
        if record.levelno < log.least or len(self._lines) >= _MOST_LINES:
            self._leave_out(log, record)
            return
        text = _clamped(_text(record), self._line_bytes)
        name = _clamped(clean(record.name), self._line_bytes)
        size = log.bytes + len(text.encode()) + len(name.encode())
        is_quiet = record.levelno < logging.WARNING
        if size > self._limit_bytes * (_QUIET_SHARE if is_quiet else 1):
            log.least = max(log.least, logging.WARNING if is_quiet else sys.maxsize)
            self._leave_out(log, record)
            return
        log.bytes = size
        level = min(max(record.levelno, 0), _HIGHEST_LEVEL)
        self._lines.append(_Kept(log.id, log.run, next(log.numbers), float(record.created), level, name, text))

    def _leave_out(self, log: RunLog, record: logging.LogRecord) -> None:
        log.leave_out(float(record.created))
        self._short.add(log)

    # --- where they are written ---------------------------------------------------------------------------------------

    def write_to(self, write: Callable[[str], None]) -> None:
        """Hand over what was logged since the last time, as the JSON of ``write_logs_v1``; keep what is not taken.

        Raises:
            Exception: What ``write`` raised.
        """
        for _ in range(len(self._lines) // _BATCH_LINES + 1):
            self._write_some(write)

    def _write_some(self, write: Callable[[str], None]) -> None:
        lines = list(islice(_taken(self._lines), _BATCH_LINES))
        short = {self._short.pop() for _ in range(len(self._short))}
        if not lines and not short:
            return
        now = time.time()
        try:
            write(json.dumps([each.as_dict(now) for each in [*lines, *filter(None, map(_gap, short))]]))
        except BaseException:
            self._lines.extendleft(reversed(lines))
            self._short |= short
            raise


def _taken(lines: deque[_Kept]) -> Iterator[_Kept]:
    """Take lines from the front, as long as there are any."""
    with suppress(IndexError):
        while True:
            yield lines.popleft()


def _gap(log: RunLog) -> _Kept | None:
    """Say where lines are missing, and how many by now. Written again with another number, it replaces the last one."""
    if log.gap is None:
        return None
    number, created = log.gap
    missing = f"{log.left_out:,} lines from here on are left out, for want of room (PIPELINE_TASK_LOG_LIMIT_BYTES)"
    return _Kept(log.id, log.run, number, created, logging.WARNING, "pipeline.task_logs", missing)


def _is_machinery(name: str) -> bool:
    return name.partition(".")[0] in _MACHINERY


def _text(record: logging.LogRecord) -> str:
    """Make the text of a line with its traceback, as plain as Python's own: without values of variables."""
    form, values = without_arguments(record.msg), without_arguments(record.args)
    try:
        message = str(Line(form) if isinstance(form, Mapping) else form)
        message = message % values if values else message  # as LogRecord.getMessage does
    except Exception as broken:  # noqa: BLE001 - the values that are put in are anybody's objects
        message = f"{form!r} (its values cannot be put in: {type(broken).__name__})"
    return clean("\n".join([message, *_traces(record)]))


def _traces(record: logging.LogRecord) -> Iterator[str]:
    error: Any = record.exc_info
    if isinstance(record.msg, Mapping):  # structlog's own way to say it
        error = error or record.msg.get("exc_info")
    if isinstance(error, BaseException):
        error = type(error), error, error.__traceback__
    elif error and not isinstance(error, tuple):
        error = sys.exc_info()
    if error and error[1] is not None:
        yield "".join(traceback.format_exception(*error)).rstrip("\n")
    if record.stack_info:
        yield record.stack_info


def _clamped(text: str, most: int) -> str:
    """Shorten a text to so many bytes, about: its beginning, and its end, where a traceback says what went wrong."""
    encoded = text.encode()
    if len(encoded) <= most:
        return text
    cut = len(encoded) - most
    first, last = encoded[: most // 2], encoded[-(most // 2) :]
    return f"{first.decode(errors='ignore')} … ({cut:,} bytes left out) … {last.decode(errors='ignore')}"
