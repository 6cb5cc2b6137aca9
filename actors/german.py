"""German notation of numbers, money and dates, without the process's locale.

``locale.setlocale`` is global to a process and not safe among the threads of a worker, so the few rules that are
needed are written out here.
"""

import re
from contextlib import suppress
from datetime import date
from decimal import Decimal

# At most 28 digits: what a Decimal keeps exactly under Python's default context.
_LONGEST_NUMBER = 28
_GERMAN = re.compile(r"[+-]?(?:[1-9][0-9]{0,2}(?:\.[0-9]{3})+|[0-9]+)(?:,[0-9]+)?")
_PLAIN = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_DATES = (
    re.compile(r"(?P<day>[0-9]{1,2})\.(?P<month>[0-9]{1,2})\.(?P<year>[0-9]{4})"),
    re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"),
)
_CURRENCY = re.compile(r"\s*(?:€|EUR)$")


def parse_number(text: str) -> Decimal:
    """Read ``1.234,56`` or ``1234.56``.

    One to three digits, a dot and exactly three digits are German thousands: ``1.234`` is one thousand two hundred and
    thirty-four.

    Raises:
        ValueError: It is no number, or written in a third notation, such as ``1,234.56``.
    """
    number = text.strip()
    if len(number) <= _LONGEST_NUMBER:
        if _GERMAN.fullmatch(number):
            return Decimal(number.replace(".", "").replace(",", "."))
        if _PLAIN.fullmatch(number):
            return Decimal(number)
    raise ValueError("is not a number such as 1.234,56 or 1234.56")


def parse_money(text: str) -> Decimal:
    """Read an amount in euro, with or without the currency; more than two decimals are refused."""
    amount = parse_number(_CURRENCY.sub("", text.strip()))
    if amount != amount.quantize(Decimal("0.01")):
        raise ValueError("has more than two decimals")
    return amount.quantize(Decimal("0.01"))


def parse_date(text: str) -> date:
    """Read ``31.12.2026`` or ``2026-12-31``."""
    for notation in _DATES:
        if match := notation.fullmatch(text.strip()):
            with suppress(ValueError):  # 31.02.2026 looks right and is no day
                return date(int(match["year"]), int(match["month"]), int(match["day"]))
    raise ValueError("is not a date such as 31.12.2026 or 2026-12-31")


def format_number(number: Decimal) -> str:
    """Write a number with two decimals as ``1.234,56``."""
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


def format_money(amount: Decimal) -> str:
    """Write an amount as ``1.234,56 €``, with a space that does not break."""
    return f"{format_number(amount)}\N{NO-BREAK SPACE}€"


def format_date(day: date) -> str:
    """Write a day as ``31.12.2026``."""
    return f"{day:%d.%m.}{day.year:04d}"
