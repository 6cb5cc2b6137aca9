"""Reports: figures for people, aggregated by the database."""

from datetime import date
from decimal import Decimal
from typing import TypedDict

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from actors.errors import ErpError, PeriodInvalid
from actors.models import Invoice, Order, Product
from pipeline import actor, current_task

_BEST_SELLERS = 5


class ArticleFigures(TypedDict):
    """Sales of one article in a month."""

    article: str
    name: str
    quantity: int
    net: str


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


def summarize_month(session: Session, year: int, month: int) -> MonthlyReport:
    """Return the month's figures; raises ``PeriodInvalid`` for a month that does not exist."""
    first, following = _bounds(year, month)
    count, net, vat, total = session.execute(
        select(func.count(), _sum(Invoice.net), _sum(Invoice.vat), _sum(Invoice.total)).where(
            Invoice.issued_on >= first, Invoice.issued_on < following
        )
    ).one()
    return MonthlyReport(
        year=year,
        month=month,
        invoices=count,
        net=str(net),
        vat=str(vat),
        total=str(total),
        best_sellers=_best_sellers(session, first, following),
    )


def _sum(amount: InstrumentedAttribute[Decimal]) -> ColumnElement[Decimal]:
    return func.coalesce(func.sum(amount), Decimal("0.00"))


def _bounds(year: int, month: int) -> tuple[date, date]:
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
