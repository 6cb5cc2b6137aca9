"""What an actor's runs may take together: checked where it is declared, written down where claims look.

Options of an actor, each of them optional, and counted over all workers:
    max_running: So many of its runs at a time.
    max_running_per_key: So many at a time of those that have the same ``concurrency_key``; 1 by default.
    rate_limit: ``"10/m"``: so many in a second (s), minute (m) or hour (h), evenly spread; of those that have the same
        ``rate_key``, if they have one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OPTIONS = frozenset({"max_running", "max_running_per_key", "rate_limit"})

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000}
_MOST = 1_000_000


def wrong(options: Mapping[str, Any]) -> str | None:
    """Say what is wrong with the limits among an actor's options; None if nothing is."""
    for name in ("max_running", "max_running_per_key"):
        value = options.get(name)
        if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST):
            return f"the {name} {value!r} is no whole number from 1 to {_MOST}"
    rate = options.get("rate_limit")
    if rate is not None and _parsed(rate) is None:
        return f"the rate_limit {rate!r} is not like '10/s', '10/m' or '10/h'"
    return None


def limits_of(options: Mapping[str, Any]) -> dict[str, int] | None:
    """Write an actor's limits as the store keeps them; None if it has none."""
    limits = {name: options[name] for name in ("max_running", "max_running_per_key") if options.get(name) is not None}
    if (rate := _parsed(options.get("rate_limit"))) is not None:
        limits["rate_count"], limits["rate_ms"] = rate
    return limits or None


def _parsed(rate: Any) -> tuple[int, int] | None:
    found = re.fullmatch(r"([1-9]\d{0,5})/([smh])", rate) if isinstance(rate, str) else None
    return None if found is None else (int(found[1]), _UNITS_MS[found[2]])
