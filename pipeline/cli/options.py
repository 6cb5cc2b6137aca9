"""What several commands ask for."""

from __future__ import annotations

import getpass
import re
from datetime import timedelta
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


who_option = click.option("--who", default=getpass.getuser, show_default="your user name", help="Whom the audit names.")
reason_option = click.option("--reason", default="", help="Why, for whoever wonders.")
