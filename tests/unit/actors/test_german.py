"""German notation: what a person writes is what we read."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import german

ARABIC_ONE = "\N{ARABIC-INDIC DIGIT ONE}"

amounts = st.decimals(min_value=-(10**15), max_value=10**15, places=2)
days = st.dates(min_value=date(1000, 1, 1))


@given(amounts)
def test_a_number_written_in_german_is_read_back(amount: Decimal) -> None:
    assert german.parse_number(german.format_number(amount)) == amount


@given(amounts)
def test_a_number_in_plain_notation_is_read(amount: Decimal) -> None:
    assert german.parse_number(f"{amount:f}") == amount


@given(amounts)
def test_money_is_read_back_with_its_currency(amount: Decimal) -> None:
    assert german.parse_money(german.format_money(amount)) == amount


@given(st.text())
def test_any_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    try:
        number = german.parse_number(text)
    except ValueError:
        return
    assert number.is_finite()


@given(days)
def test_a_day_is_read_in_both_notations(day: date) -> None:
    assert german.parse_date(german.format_date(day)) == day
    assert german.parse_date(day.isoformat()) == day


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.234,56", "1234.56"),
        ("1234.56", "1234.56"),
        ("1234,56", "1234.56"),
        ("1.234", "1234"),
        ("12.345.678", "12345678"),
        ("0.125", "0.125"),
        ("1234.567", "1234.567"),
        ("0,5", "0.5"),
        (" 7 ", "7"),
        ("-3,10", "-3.10"),
        ("+3", "3"),
        ("007", "7"),
    ],
)
def test_numbers_as_they_are_written(text: str, number: str) -> None:
    assert german.parse_number(text) == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "1,234.56",
        "1.23.456",
        "1.2345,6",
        "1,2,3",
        ",5",
        "5,",
        "1e3",
        "NaN",
        "Infinity",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "--1",
        "1" * 29,
    ],
)
def test_what_is_no_number_or_could_be_two_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        german.parse_number(text)


@pytest.mark.parametrize("text", ["19,90 €", "19.90EUR", "19,9", "19,900 EUR"])
def test_money_may_carry_its_currency(text: str) -> None:
    assert german.parse_money(text) == Decimal("19.90")


def test_money_with_a_fraction_of_a_cent_is_refused() -> None:
    with pytest.raises(ValueError, match="more than two decimals"):
        german.parse_money("19,901")


@pytest.mark.parametrize(
    "text", ["", "31.02.2026", "2026-13-01", "31/12/2026", "31.12.26", "20261231", f"{ARABIC_ONE}.1.2026"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date"):
        german.parse_date(text)
