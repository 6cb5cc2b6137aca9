"""The business tables, in the PostgreSQL schema ``erp``.

An invoice, its mail and its payment carry the id of their order as primary key. An order therefore has at most one
invoice and one mail, whoever runs twice, and the three steps of its chain need to know only one number.
"""

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any

import psycopg2
from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Numeric,
    create_engine,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.schema import CreateSchema

SCHEMA = "erp"

Key = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
Money = Annotated[Decimal, mapped_column(Numeric(20, 2))]
Instant = Annotated[datetime, mapped_column(DateTime(timezone=True))]
CreatedAt = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())]


class DatasetState(enum.StrEnum):
    """How far the import of an uploaded file has come."""

    UPLOADED = "uploaded"
    IMPORTING = "importing"
    IMPORTED = "imported"
    FAILED = "failed"


class ErpTable(DeclarativeBase):
    """What every business table shares: its schema and how constraints are named."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "fk": "%(table_name)s_%(column_0_name)s_fkey",
            "uq": "%(table_name)s_%(column_0_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "ix": "%(table_name)s_%(column_0_name)s_idx",
        },
    )


class Product(ErpTable):
    """An article of the catalogue and how many of it are in the warehouse."""

    __tablename__ = "product"
    __table_args__ = (CheckConstraint("stock >= 0", name="stock"),)

    id: Mapped[Key]
    article: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    stock: Mapped[int] = mapped_column(BigInteger)


class Dataset(ErpTable):
    """A file of orders: uploaded (its bytes are ``DatasetPart`` rows) or lying at ``path``."""

    __tablename__ = "dataset"

    id: Mapped[Key]
    name: Mapped[str]
    path: Mapped[str | None]
    state: Mapped[DatasetState] = mapped_column(
        Enum(DatasetState, native_enum=False, length=16, values_callable=list),
        default=DatasetState.UPLOADED,
    )
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Instant | None]


class DatasetPart(ErpTable):
    """A piece of an uploaded file, small enough to be held in memory."""

    __tablename__ = "dataset_part"

    dataset_id: Mapped[int] = mapped_column(ForeignKey(Dataset.id, ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class RowRejection(ErpTable):
    """A row of a dataset that did not become an order, and why."""

    __tablename__ = "row_rejection"

    dataset_id: Mapped[int] = mapped_column(ForeignKey(Dataset.id, ondelete="CASCADE"), primary_key=True)
    row_number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    reason: Mapped[str]


class Order(ErpTable):
    """A customer's order of one article."""

    __tablename__ = "sales_order"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("unit_price >= 0", name="unit_price"),
    )

    id: Mapped[Key]
    number: Mapped[str] = mapped_column(unique=True)
    customer: Mapped[str]
    email: Mapped[str]
    product_id: Mapped[int] = mapped_column(ForeignKey(Product.id))
    quantity: Mapped[int]
    unit_price: Mapped[Money]
    ordered_on: Mapped[date]
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey(Dataset.id), index=True)
    dataset_row: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    booked_at: Mapped[Instant | None]

    product: Mapped[Product] = relationship()


class Invoice(ErpTable):
    """The invoice of a booked order; ``document`` is empty until it is issued."""

    __tablename__ = "invoice"
    __table_args__ = (
        CheckConstraint("total = net + vat", name="total"),
        CheckConstraint("(document IS NULL) = (issued_on IS NULL)", name="issued"),
        Index("invoice_issued_on_idx", "issued_on"),
    )

    order_id: Mapped[int] = mapped_column(ForeignKey(Order.id), primary_key=True)
    number: Mapped[str] = mapped_column(unique=True)
    net: Mapped[Money]
    vat: Mapped[Money]
    total: Mapped[Money]
    document: Mapped[str | None]
    issued_on: Mapped[date | None]
    created_at: Mapped[CreatedAt]

    order: Mapped[Order] = relationship()


class Mail(ErpTable):
    """The mail that carries an invoice; it is out once ``sent_at`` is set."""

    __tablename__ = "mail"

    invoice_id: Mapped[int] = mapped_column(ForeignKey(Invoice.order_id), primary_key=True)
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[Instant | None]

    invoice: Mapped[Invoice] = relationship()


class Payment(ErpTable):
    """The payment of an invoice, in full."""

    __tablename__ = "payment"

    invoice_id: Mapped[int] = mapped_column(ForeignKey(Invoice.order_id), primary_key=True)
    paid_on: Mapped[date]


class DunningMail(ErpTable):
    """The mail that asks for an overdue payment, one for each level; it is out once ``sent_at`` is set."""

    __tablename__ = "dunning_mail"

    invoice_id: Mapped[int] = mapped_column(ForeignKey(Invoice.order_id), primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True)
    dunned_on: Mapped[date]
    recipient: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[CreatedAt]
    sent_at: Mapped[Instant | None]

    invoice: Mapped[Invoice] = relationship()


class MonthClosing(ErpTable):
    """The closing report of a month, as it was drawn up last."""

    __tablename__ = "month_closing"

    year: Mapped[int] = mapped_column(primary_key=True)
    month: Mapped[int] = mapped_column(primary_key=True)
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    closed_at: Mapped[Instant]


CATALOGUE = (
    ("A-1001", "Bürostuhl Komfort"),
    ("A-1002", "Schreibtisch höhenverstellbar"),
    ("A-1003", "Monitor 27 Zoll"),
    ("A-1004", "Tastatur deutsch"),
    ("A-1005", "Funkmaus"),
    ("A-1006", "Aktenschrank"),
    ("A-1007", "Druckerpapier, 500 Blatt"),
    ("A-1008", "Kaffeemaschine"),
    ("A-1009", "Schreibtischlampe"),
    ("A-1010", "Headset"),
)
_OPENING_STOCK = 10_000_000


def create_tables(url: str) -> None:
    """Create the schema, its tables and the sample catalogue where they are missing.

    Safe to run again and by several processes at once: one of them works, the others wait for it and then find
    everything there.
    """
    engine = create_erp_engine(url)
    try:
        with engine.begin() as connection:
            _create_tables(connection)
    finally:
        engine.dispose()


def create_erp_engine(url: str) -> Engine:
    """Return an engine for programs beside the workers; whoever asks for it disposes of it.

    psycopg2 reads the address itself, since SQLAlchemy does not know all of libpq's spellings.
    """
    libpq_url = url.replace("postgresql+psycopg2://", "postgresql://", 1)
    return create_engine("postgresql+psycopg2://", creator=lambda: psycopg2.connect(libpq_url))


def _create_tables(connection: Connection) -> None:
    # IF NOT EXISTS alone is not enough: two concurrent CREATEs can both pass the check, and then one fails on the
    # unique index of the system's catalogue.
    connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('erp.create_tables'))"))
    connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
    ErpTable.metadata.create_all(connection)
    connection.execute(
        insert(Product).on_conflict_do_nothing(index_elements=[Product.article]),
        [{"article": article, "name": name, "stock": _OPENING_STOCK} for article, name in CATALOGUE],
    )
