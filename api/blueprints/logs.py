"""What tasks logged while they ran."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from flask import Response, abort, request

from api.answers import answer_json
from api.endpoints import Routes
from api.reading import read
from api.visibility import visible
from pipeline import TaskNotFound
from pipeline.store import task_logs, tasks
from pipeline.store.task_logs import BEGINNING, LEVELS, Place

blueprint = Routes("logs", __name__, url_prefix="/api/tasks")

_LIMIT = 200
_LONGEST = 1000
#: A number that PostgreSQL's int holds, and none of Unicode's other digits.
_NUMBER = r"[0-9]{1,9}"


@blueprint.get("/<task_id>/logs/")
def list_logs(task_id: str) -> Response:
    """List what a task logged, in order; ``next_after`` leads on, also to what it will log later."""
    known = tasks.as_task_id(task_id)
    which: dict[str, Any] = {
        "run": _wanted_run(),
        "level": _wanted_level(),
        "after": _after(),
        "limit": _wanted_limit(),
    }
    if known is None or read(tasks.status, known) is None:
        raise TaskNotFound(task_id)
    lines = read(task_logs.read, known, **which)
    last = lines[-1].place if lines else which["after"]
    return answer_json({"lines": [visible(asdict(line)) for line in lines], "next_after": f"{last.run}.{last.line}"})


def _wanted_run() -> int | None:
    text = request.args.get("run")
    if text is None:
        return None
    if not re.fullmatch(_NUMBER, text) or int(text) == 0:
        abort(400, "run is the number of a run, from 1")
    return int(text)


def _wanted_level() -> str:
    level = request.args.get("level", LEVELS[0]).lower()
    if level not in LEVELS:
        abort(400, f"level is one of {', '.join(LEVELS)}")
    return level


def _after() -> Place:
    text = request.args.get("after")
    if text is None:
        return BEGINNING
    if not re.fullmatch(rf"{_NUMBER}\.{_NUMBER}", text):
        abort(400, "after is the next_after of an earlier answer")
    return Place(*map(int, text.split(".")))


def _wanted_limit() -> int:
    text = request.args.get("limit", str(_LIMIT))
    if not re.fullmatch(_NUMBER, text) or not 1 <= int(text) <= _LONGEST:
        abort(400, f"limit is a number from 1 to {_LONGEST}")
    return int(text)
