"""Days, as the business counts them."""

from datetime import date

from sqlalchemy import Date, cast, func, select
from sqlalchemy.orm import Session

# A day is the one in Germany, whatever the server's zone is.
_GERMAN_TODAY = cast(func.timezone("Europe/Berlin", func.clock_timestamp()), Date)


def german_today(session: Session) -> date:
    """Return the day that it is in Germany, by the database's clock."""
    return session.scalars(select(_GERMAN_TODAY)).one()
