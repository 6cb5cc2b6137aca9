"""What several commands ask for."""

from __future__ import annotations

import getpass
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A time span such as ``90s``, ``30m``, ``2h`` or ``1d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Read it."""
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no time span; write 90s, 30m, 2h or 1d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class Limit(click.ParamType):  # type: ignore[type-arg]
    """A number of tasks above 0, or ``none``."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read it."""
        if value == "none":
            return None
        if not re.fullmatch(r"[1-9]\d{0,8}", str(value)):
            self.fail(f"{value!r} is no number of tasks above 0, nor 'none'", param, ctx)
        return int(value)


class Instant(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time such as ``2026-12-24T18:00``, in the time zone of the terminal unless it names one."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        try:
            found = datetime.fromisoformat(str(value))
            return found if found.tzinfo else found.astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; write 2026-12-24T18:00 or 2026-12-24T18:00+01:00", param, ctx)


class Since(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time, or a time span before now."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        if re.fullmatch(r"\d+[a-z]", str(value)):
            return datetime.now(tz=UTC) - Duration().convert(value, param, ctx)
        return Instant().convert(value, param, ctx)


class Json(click.ParamType):  # type: ignore[type-arg]  # as above
    """JSON of one kind."""

    def __init__(self, kind: type, name: str) -> None:
        self._kind = kind
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it."""
        try:
            found = json.loads(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is no JSON: {error}", param, ctx)
        if not isinstance(found, self._kind):
            self.fail(f"{value!r} is no {self.name}", param, ctx)
        return found


who_option = click.option("--who", default=getpass.getuser, show_default="your user name", help="Whom the audit names.")
reason_option = click.option("--reason", default="", help="Why, for whoever wonders.")
