"""Days, as the business counts them."""

from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import Date, cast, func, select
from sqlalchemy.orm import Session

from pipeline import current_task

_GERMANY = ZoneInfo("Europe/Berlin")
# A day is the one in Germany, whatever the server's zone is.
_GERMAN_TODAY = cast(func.timezone("Europe/Berlin", func.clock_timestamp()), Date)


def german_today(session: Session) -> date:
    """Return the day that it is in Germany, by the database's clock."""
    return session.scalars(select(_GERMAN_TODAY)).one()


def day_of_task(session: Session) -> date:
    """Return the German day for which the running task was made: that of its schedule's instant, or else today."""
    due_at = current_task().options.get("due_at")
    return german_today(session) if due_at is None else datetime.fromisoformat(due_at).astimezone(_GERMANY).date()
