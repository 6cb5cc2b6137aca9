"""Progress: the latest report of each run, written by one statement a second for all tasks of the process together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pipeline.progress import as_json
from pipeline.store import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipeline.progress import Progress

_INTERVAL_SECONDS = 1.0


class ProgressWriter:
    """Keeps what tasks report until it is written; what could not be written, too, unless there is a later report.

    There is no lock, for which those who report ten thousand times a second would pay: setting and taking one entry of
    a dict, and listing its keys, are each done at once.
    """

    def __init__(self, sql: Mapping[str, str]) -> None:
        self._sql = sql
        self._reports: dict[tuple[str, int], Progress] = {}
        #: When to write next, on the monotonic clock.
        self.due = 0.0

    def report(self, task_id: str, run: int, progress: Progress) -> None:
        """Keep a report of a task's run (0: of whichever goes on) in the place of an earlier one."""
        self._reports[task_id, run] = progress

    def write_if_due(self, cursor: Callable[[], Any]) -> None:
        """Write, if that was not done within the last second."""
        now = time.monotonic()
        if now >= self.due:
            self.due = now + _INTERVAL_SECONDS
            self.write(cursor)

    def write(self, cursor: Callable[[], Any]) -> None:
        """Write what was reported; the cursor is asked for only if anything was."""
        reports = {key: self._reports.pop(key) for key in list(self._reports)}
        if not reports:
            return
        text = as_json((task_id, run, progress) for (task_id, run), progress in reports.items())
        try:
            with cursor() as opened:
                tasks.report_progress(self._sql, opened, text)
        except BaseException:
            for key, progress in reports.items():
                self._reports.setdefault(key, progress)
            raise
