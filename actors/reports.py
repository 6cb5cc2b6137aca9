"""Reports: figures for people, aggregated by the database."""

from datetime import date, timedelta
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from actors.days import day_of_task
from actors.errors import ErpError, PeriodInvalid
from actors.models import Invoice, MonthClosing, Order, Product
from pipeline import actor, current_task

_BEST_SELLERS = 5
#: A closing that is made up for within so many days after the end of its month is still of that month.
_CLOSING_SLACK = timedelta(days=10)


class ArticleFigures(TypedDict):
    """Sales of one article in a month."""

    article: str
    name: str
    quantity: int
    net: str


class DailyReport(TypedDict):
    """Figures of one day."""

    day: str
    invoices: int
    net: str
    vat: str
    total: str


class MonthlyReport(TypedDict):
    """Figures of one month; amounts are decimal text, for JSON has no decimals."""

    year: int
    month: int
    invoices: int
    net: str
    vat: str
    total: str
    best_sellers: list[ArticleFigures]


@actor(queue_name="reports", max_retries=5, transactional=True, throws=(ErpError,))
def monthly_report(year: int, month: int) -> MonthlyReport:
    """Sum up the invoices issued in a month. Safe to run twice: it only reads."""
    return summarize_month(current_task().session, year, month)


@actor(queue_name="reports", max_retries=5, transactional=True, throws=(ErpError,))
def daily_report(day: str | None = None) -> DailyReport:
    """Sum up the invoices issued on a day (``2026-12-31``), by default the one before.

    Of a schedule's task, that is the day before its instant, however late it runs. Safe to run twice: it only reads.
    """
    session = current_task().session
    return summarize_day(session, day_of_task(session) - timedelta(days=1) if day is None else _read_day(day))


@actor(queue_name="reports", max_retries=5, transactional=True, throws=(ErpError,))
def month_end_closing(year: int | None = None, month: int | None = None) -> MonthlyReport:
    """Draw up the closing report of a month and keep it, by default of the month that ends or has just ended.

    Safe to run twice: a month has one closing, and the last run's figures stand in it.
    """
    session = current_task().session
    if year is None and month is None:
        ends = day_of_task(session) - _CLOSING_SLACK
        year, month = ends.year, ends.month
    return close_month(session, year, month)


def close_month(session: Session, year: int | None, month: int | None) -> MonthlyReport:
    """Keep the month's figures; raises ``PeriodInvalid`` for a month that does not exist."""
    report = summarize_month(session, year, month)
    values = {"report": report, "closed_at": func.clock_timestamp()}
    closing = insert(MonthClosing).values(year=report["year"], month=report["month"], **values)
    session.execute(closing.on_conflict_do_update(index_elements=["year", "month"], set_=values))
    return report


def summarize_day(session: Session, day: date) -> DailyReport:
    """Return the day's figures."""
    count, net, vat, total = _figures(session, day, day + timedelta(days=1))
    return DailyReport(day=day.isoformat(), invoices=count, net=str(net), vat=str(vat), total=str(total))


def summarize_month(session: Session, year: int | None, month: int | None) -> MonthlyReport:
    """Return the month's figures; raises ``PeriodInvalid`` for a month that does not exist."""
    first, following = _bounds(year, month)
    count, net, vat, total = _figures(session, first, following)
    return MonthlyReport(
        year=first.year,
        month=first.month,
        invoices=count,
        net=str(net),
        vat=str(vat),
        total=str(total),
        best_sellers=_best_sellers(session, first, following),
    )


def _figures(session: Session, first: date, following: date) -> tuple[int, Decimal, Decimal, Decimal]:
    figures = select(func.count(), _sum(Invoice.net), _sum(Invoice.vat), _sum(Invoice.total))
    issued = figures.where(Invoice.issued_on >= first, Invoice.issued_on < following)
    count, net, vat, total = session.execute(issued).one()
    return count, net, vat, total


def _sum(amount: InstrumentedAttribute[Decimal]) -> ColumnElement[Decimal]:
    return func.coalesce(func.sum(amount), Decimal("0.00"))


def _read_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except (ValueError, TypeError):
        raise PeriodInvalid(f"{text!r} is not a day such as 2026-12-31.") from None


def _bounds(year: int | None, month: int | None) -> tuple[date, date]:
    # Arguments come as JSON: 2026.5, "2026" and true are not months.
    if type(year) is not int or type(month) is not int:
        raise PeriodInvalid(f"Year and month are whole numbers, not {year!r} and {month!r}.")
    if not (1 <= month <= 12 and 1900 <= year <= 9998):
        raise PeriodInvalid(f"There is no month {month} of the year {year} to report.")
    return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1)


def _best_sellers(session: Session, first: date, following: date) -> list[ArticleFigures]:
    net = func.sum(Invoice.net)
    rows = session.execute(
        select(Product.article, Product.name, func.sum(Order.quantity), net)
        .join(Order, Order.product_id == Product.id)
        .join(Invoice, Invoice.order_id == Order.id)
        .where(Invoice.issued_on >= first, Invoice.issued_on < following)
        .group_by(Product.id)
        .order_by(net.desc(), Product.article)
        .limit(_BEST_SELLERS)
    )
    return [
        ArticleFigures(article=article, name=name, quantity=quantity, net=str(amount))
        for article, name, quantity, amount in rows
    ]
