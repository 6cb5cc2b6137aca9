"""The monthly report: what was issued in a month, to the cent."""

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy.orm import Session

from actors.errors import PeriodInvalid
from actors.invoices import write_invoice
from actors.models import Invoice
from actors.orders import book_order
from actors.reports import summarize_month
from tests.integration.actors.conftest import AddOrder


def issue(session: Session, order_id: int, issued_on: date) -> None:
    book_order(session, order_id)
    write_invoice(session, order_id)
    session.get_one(Invoice, order_id).issued_on = issued_on
    session.commit()


def test_the_month_counts_from_its_first_to_its_last_day(session: Session, add_order: AddOrder) -> None:
    for day in (date(2026, 11, 30), date(2026, 12, 1), date(2026, 12, 31), date(2027, 1, 1)):
        issue(session, add_order(article="A-1002", quantity=1, unit_price=Decimal("10.00")), day)
    issue(session, add_order(article="A-1003", quantity=3, unit_price=Decimal("0.10")), date(2026, 12, 24))

    assert summarize_month(session, 2026, 12) == {
        "year": 2026,
        "month": 12,
        "invoices": 3,
        "net": "20.30",
        "vat": "3.86",
        "total": "24.16",
        "best_sellers": [
            {"article": "A-1002", "name": "Schreibtisch höhenverstellbar", "quantity": 2, "net": "20.00"},
            {"article": "A-1003", "name": "Monitor 27 Zoll", "quantity": 3, "net": "0.30"},
        ],
    }


def test_a_month_without_invoices_is_zero(session: Session) -> None:
    report = summarize_month(session, 2026, 2)

    assert (report["invoices"], report["total"], report["best_sellers"]) == (0, "0.00", [])


@pytest.mark.parametrize(
    ("year", "month"), [(2026, 0), (2026, 13), (0, 1), (9999, 12), (True, 1), ("2026", 1), (2026, 1.0)]
)
def test_a_month_that_does_not_exist_is_refused(session: Session, year: int, month: int) -> None:
    with pytest.raises(PeriodInvalid):
        summarize_month(session, year, month)
