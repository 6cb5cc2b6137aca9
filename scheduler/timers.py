"""Timers: APScheduler calls when the time has come, and holds nothing else.

It reads ``datetime.now()`` of this machine. So timers are set by how long it is until then, and set anew when that
clock was set (see ``database_clock``). No timer is dropped for coming late (``misfire_grace_time``), and a call may
begin while an earlier one of the same name runs: who is called sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

_NEVER_DROPPED = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1_000_000}


class Timers:
    """One timer for each number, and some threads in which is called what they stand for."""

    def __init__(self, call: Callable[[int], None], *, threads: int) -> None:
        self._call = call
        executor = ThreadPoolExecutor(threads, {"thread_name_prefix": "pipeline-scheduler"})
        self._scheduler = BackgroundScheduler(
            executors={"default": executor}, job_defaults=_NEVER_DROPPED, timezone=UTC
        )

    def start(self) -> None:
        """Begin to call."""
        self._scheduler.start()

    def stop(self) -> None:
        """Begin no more calls. Those that have begun are not waited for: APScheduler would hold its lock meanwhile.

        Its thread dies with a traceback if it finds itself shut down while it puts a timer away that has just come. So
        it is paused, and what it is at is waited for by asking for something that it holds its lock for.
        """
        self._scheduler.pause()
        self._scheduler.get_jobs()
        self._scheduler.shutdown(wait=False)

    def set(self, number: int, seconds: float) -> None:
        """Call with this number once, after so many seconds; instead of what was set for it before."""
        at = datetime.now(UTC) + timedelta(seconds=max(seconds, 0))
        self._scheduler.add_job(self._call, DateTrigger(at), (number,), id=str(number), replace_existing=True)

    def clear(self, number: int) -> None:
        """Do not call with this number, if that was to be done."""
        with suppress(JobLookupError):
            self._scheduler.remove_job(str(number))
