"""How far a run is: one report checked and joined to those before it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

from pipeline.text import clean

#: Longer notes and names of steps are cut off here when they are written.
TEXT_CHARACTERS = 500
#: The greatest count that a column holds.
_MOST = 2**63 - 1


class Progress(NamedTuple):
    """All that is known of how far a run is."""

    percent: int = 0
    done: int | None = None
    total: int | None = None
    step: str | None = None
    note: str = ""


NOTHING = Progress()


def advanced(
    before: Progress,
    done: float | None = None,
    total: float | None = None,
    step: str | None = None,
    note: str | None = None,
    percent: float | None = None,
) -> Progress:
    """Return the progress after a report; the same object if the report tells less than is known.

    What is not given stays as it is, but another step starts without counts. The percentage follows from the counts
    where it is not given, and never falls. Fractions are cut off. What is done may turn out to be more than the total:
    then that was too low.

    Raises:
        ValueError: A number that is not finite, or negative, or a percentage above 100; a text that is none.
    """
    counted, total = _whole("done", done, _MOST), _whole("total", total, _MOST)
    told = _whole("percent", percent, 100)
    step, note = _text("step", step, before.step), _text("note", note, before.note)
    if step == before.step:
        done = before.done if counted is None else counted
        total = before.total if total is None else total
    else:
        done = counted
    if done is not None and total is not None:
        total = max(total, done)
        if told is None:
            told = 100 * done // total if total else 100
    if step == before.step and _is_less(before, counted, told):
        return before
    return Progress(max(before.percent, told or 0), done, total, step, note or "")


def _is_less(before: Progress, done: int | None, percent: int | None) -> bool:
    """Tell whether a report of the same step is behind: by what it counts, else by its percentage."""
    if done is not None and before.done is not None:
        return done < before.done
    return percent is not None and percent < before.percent


def _whole(name: str, value: Any, most: int) -> int | None:
    if value is None or (type(value) is int and 0 <= value <= most):  # nearly always, and quick
        return value
    whole: int = math.trunc(value) if _is_finite(value) else -1
    if not 0 <= whole <= most or value < 0:  # a fraction below 0 is cut off to 0
        raise ValueError(f"{name} is a number from 0 to {most}, not {_shown(value)}")
    return whole


def _is_finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return False
    try:
        return math.isfinite(value)
    except (OverflowError, ValueError):  # greater than any float; a NaN that objects to being looked at
        return False


def _text(name: str, value: Any, before: str | None) -> str | None:
    if value is None:
        return before
    if not isinstance(value, str):
        raise ValueError(f"{name} is a text, not {_shown(value)}")  # noqa: TRY004 - one kind of error for all bad input
    return value


def _shown(value: Any) -> str:
    try:
        return repr(value)[:80]
    except Exception:  # noqa: BLE001 - whatever it is; an integer of more than 4,300 digits, for instance
        return f"a {type(value).__name__}"


def as_json(reports: Iterable[tuple[str, int, Progress]]) -> str:
    """Write reports, each of a task and its run (0: whichever goes on), as ``report_progress_v1`` takes them."""
    return json.dumps(
        [
            {
                "t": task_id,
                "r": run,
                "p": progress.percent,
                "d": progress.done,
                "m": progress.total,
                "s": None if progress.step is None else _cut(progress.step),
                "n": _cut(progress.note),
            }
            for task_id, run, progress in reports
        ]
    )


def _cut(text: str) -> str:
    return clean(text[:TEXT_CHARACTERS])
