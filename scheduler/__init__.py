"""The scheduler: schedules, and the daemon that fires them.

What applications import stands here: :class:`Schedule` to declare one in code, and commands for those made at run time.
"""

from scheduler.commands import (
    add_schedule,
    edit_schedule,
    find_schedule,
    list_firings,
    list_schedules,
    pause_schedule,
    preview_schedule,
    remove_schedule,
    resume_schedule,
    run_schedule,
)
from scheduler.declare import Schedule

__all__ = [
    "Schedule",
    "add_schedule",
    "edit_schedule",
    "find_schedule",
    "list_firings",
    "list_schedules",
    "pause_schedule",
    "preview_schedule",
    "remove_schedule",
    "resume_schedule",
    "run_schedule",
]
