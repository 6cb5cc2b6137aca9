"""A fresh ERP for each test: business tables and catalogue in a database of its own."""

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from itertools import count

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from actors.models import Order, Product, create_erp_engine, create_tables
from pipeline import PostgresBroker
from pipeline.testing import bound

AddOrder = Callable[..., int]


@pytest.fixture
def erp(database_url: str) -> Iterator[Engine]:
    create_tables(database_url)
    engine = create_erp_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def session(erp: Engine) -> Iterator[Session]:
    with Session(erp) as session:
        yield session


@pytest.fixture
def add_order(erp: Engine) -> AddOrder:
    """Store a committed order and return its id; any column may be given."""
    numbers = count(1)

    def add(article: str = "A-1001", **columns: object) -> int:
        number = next(numbers)
        values: dict[str, object] = {
            "number": f"B-{number}",
            "customer": "Müller & Söhne <GmbH>",
            "email": f"kunde{number}@firma.example",
            "quantity": 2,
            "unit_price": Decimal("1234.50"),
            "ordered_on": date(2026, 12, 31),
        }
        with Session(erp) as session, session.begin():
            product_id = session.scalars(select(Product.id).where(Product.article == article)).one()
            order = Order(product_id=product_id, **(values | columns))
            session.add(order)
            session.flush()
            return order.id

    return add


@pytest.fixture
def broker(erp: Engine, database_url: str) -> Iterator[PostgresBroker]:
    """The broker of the actors, bound to this test's database."""
    with bound(database_url) as broker:
        yield broker
