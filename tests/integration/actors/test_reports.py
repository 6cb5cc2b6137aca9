"""Reports: what was issued in a month or on a day, to the cent, and closings that are kept."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from actors.days import german_today
from actors.errors import PeriodInvalid
from actors.invoices import write_invoice
from actors.models import Invoice, MonthClosing
from actors.orders import book_order
from actors.reports import close_month, daily_report, month_end_closing, summarize_day, summarize_month
from pipeline.testing import drain
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


def test_a_day_counts_what_was_issued_on_it(session: Session, add_order: AddOrder) -> None:
    for day in (date(2026, 12, 30), date(2026, 12, 31), date(2027, 1, 1)):
        issue(session, add_order(quantity=1, unit_price=Decimal("10.00")), day)

    report = summarize_day(session, date(2026, 12, 31))

    assert report == {"day": "2026-12-31", "invoices": 1, "net": "10.00", "vat": "1.90", "total": "11.90"}


def test_a_closing_is_kept_once_with_the_last_figures(session: Session, add_order: AddOrder) -> None:
    issue(session, add_order(quantity=1, unit_price=Decimal("10.00")), date(2026, 12, 30))
    close_month(session, 2026, 12)
    issue(session, add_order(quantity=1, unit_price=Decimal("10.00")), date(2026, 12, 31))

    report = close_month(session, 2026, 12)

    (closing,) = session.scalars(select(MonthClosing))
    assert (closing.year, closing.month, closing.report) == (2026, 12, report)
    assert report["total"] == "23.80"


@pytest.mark.usefixtures("broker")
def test_without_a_day_or_a_month_it_is_the_one_that_has_just_ended(session: Session) -> None:
    daily_report.send()
    month_end_closing.send()
    daily_report.send("2026-12-31")

    results = [run.result for run in drain()]

    today = german_today(session)
    ends = today - timedelta(days=10)
    assert [each["day"] for each in results if "day" in each] == [str(today - timedelta(days=1)), "2026-12-31"]
    assert [(each["year"], each["month"]) for each in results if "year" in each] == [(ends.year, ends.month)]


@pytest.mark.usefixtures("broker")
def test_a_task_of_a_schedule_reports_the_day_before_its_instant_however_late_it_runs() -> None:
    daily_report.send_with_options(due_at="2026-12-31T23:30:00+00:00")  # in Germany, the year has changed
    month_end_closing.send_with_options(due_at="2026-12-31T17:00:00+00:00")

    day, month = (run.result for run in drain())

    assert day["day"] == "2026-12-31"
    assert (month["year"], month["month"]) == (2026, 12)


@pytest.mark.usefixtures("broker")
def test_a_day_that_does_not_exist_and_half_a_month_are_refused() -> None:
    daily_report.send("31.12.2026")
    month_end_closing.send(2026)

    assert [type(run.error) for run in drain(raise_errors=False)] == [PeriodInvalid, PeriodInvalid]
