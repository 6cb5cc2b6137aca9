"""Orders: booked once, with stock and invoice, or not at all."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from actors.errors import OrderUnknown, StockInsufficient
from actors.models import Invoice, Order, Product
from actors.orders import ALREADY_PROCESSED, BOOKED, book_order
from tests.integration.actors.conftest import AddOrder


def stock_of(session: Session, article: str = "A-1001") -> int:
    return session.scalars(select(Product.stock).where(Product.article == article)).one()


def set_stock(session: Session, stock: int) -> None:
    session.execute(update(Product).where(Product.article == "A-1001").values(stock=stock))
    session.commit()


def test_booking_takes_the_goods_and_draws_up_the_invoice(session: Session, add_order: AddOrder) -> None:
    set_stock(session, 10)
    order_id = add_order(quantity=3, unit_price=Decimal("0.35"))

    answer = book_order(session, order_id)
    session.commit()

    invoice = session.get_one(Invoice, order_id)
    assert answer == BOOKED
    assert stock_of(session) == 7
    assert (invoice.net, invoice.vat, invoice.total) == (Decimal("1.05"), Decimal("0.20"), Decimal("1.25"))
    assert invoice.number == f"R{order_id:08d}"
    assert invoice.document is None
    assert session.get_one(Order, order_id).booked_at is not None


def test_a_second_run_answers_already_processed_and_changes_nothing(session: Session, add_order: AddOrder) -> None:
    set_stock(session, 10)
    order_id = add_order(quantity=3)
    book_order(session, order_id)
    session.commit()

    assert book_order(session, order_id) == ALREADY_PROCESSED == "already processed"
    assert stock_of(session) == 7


def test_two_runs_at_once_book_once(erp: Engine, session: Session, add_order: AddOrder) -> None:
    set_stock(session, 10)
    order_id = add_order(quantity=3)

    def run(_: int) -> str:
        with Session(erp) as own, own.begin():
            return book_order(own, order_id)

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(run, range(4)))

    assert answers == [ALREADY_PROCESSED] * 3 + [BOOKED]
    assert stock_of(session) == 7


def test_orders_at_once_never_take_more_than_there_is(erp: Engine, session: Session, add_order: AddOrder) -> None:
    set_stock(session, 10)
    order_ids = [add_order(quantity=3) for _ in range(5)]

    def run(order_id: int) -> str:
        try:
            with Session(erp) as own, own.begin():
                return book_order(own, order_id)
        except StockInsufficient:
            return "refused"

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(run, order_ids))

    assert answers.count(BOOKED) == 3
    assert stock_of(session) == 1
    assert session.scalars(select(func.count()).select_from(Invoice)).one() == 3


def test_too_little_stock_refuses_the_order_and_leaves_no_trace(session: Session, add_order: AddOrder) -> None:
    set_stock(session, 2)
    order_id = add_order(number="B-77", quantity=3)

    with pytest.raises(StockInsufficient) as caught:
        book_order(session, order_id)
    session.rollback()

    assert str(caught.value) == "Order B-77 asks for 3 of article A-1001, but only 2 are in stock."
    assert session.get(Invoice, order_id) is None
    assert session.get_one(Order, order_id).booked_at is None


def test_an_unknown_order_is_an_error_that_names_it(session: Session) -> None:
    with pytest.raises(OrderUnknown, match="4711"):
        book_order(session, 4711)
