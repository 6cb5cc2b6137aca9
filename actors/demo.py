"""``pipeline demo``: a file of orders, imported and worked off before your eyes."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from tempfile import TemporaryFile
from threading import Event
from time import monotonic
from typing import BinaryIO
from uuid import uuid4

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from actors.datasets import import_orders, store_dataset
from actors.german import format_date, format_number
from actors.models import CATALOGUE, Dataset, Invoice, Mail, Order, create_erp_engine
from actors.order_csv import COLUMNS
from pipeline import enlist, get_broker

_SEED = 4711
_LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Counts:
    """What has become of a dataset so far."""

    orders: int
    booked: int
    invoices: int
    mails: int

    def are_complete(self, expected: int) -> bool:
        """Tell whether every order has its invoice and every invoice is mailed."""
        return self.orders == self.invoices == self.mails == expected


@click.command()
@click.option("--orders", default=500, show_default=True, type=click.IntRange(1, 1_000_000), help="How many orders.")
@click.option(
    "--timeout",
    "timeout_seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Give up after so many seconds without any progress.",
)
def demo(orders: int, timeout_seconds: float) -> None:
    """Import orders and wait until they are booked, invoiced and mailed.

    Makes a German-looking file, always with the same customers, uploads it and shows how the workers get on.
    Ends with the counts of orders, invoices and mails, which must agree.
    """
    # Orders and tasks can commit together only in the database that the queue uses.
    engine = create_erp_engine(get_broker().url)
    try:
        _run(engine, orders, timeout_seconds)
    finally:
        engine.dispose()


def _run(engine: Engine, orders: int, timeout_seconds: float) -> None:
    console = Console()
    dataset_id = upload(engine, orders)
    counts = _watch(engine, dataset_id, orders, timeout_seconds, console)
    console.print(_table(counts))
    if not counts.are_complete(orders):
        raise click.ClickException(_advice(engine, dataset_id, counts, orders))
    console.print(f"{orders:,} orders, {orders:,} invoices, {orders:,} mails: nothing lost, nothing twice.")


def upload(engine: Engine, orders: int) -> int:
    """Store a new file of orders and send its import, in one transaction; return the dataset's id."""
    with TemporaryFile() as file, Session(engine) as session, session.begin(), enlist(session):
        # A tag of its own, for order numbers are unique and the demo may run again.
        write_orders(file, orders, tag=uuid4().hex[:8])
        file.seek(0)
        dataset_id = store_dataset(session, f"demo-{orders}.csv", file)
        import_orders.send(dataset_id)
    return dataset_id


def write_orders(file: BinaryIO, orders: int, tag: str) -> None:
    """Write a file as a German spreadsheet saves it; the same tag gives the same bytes."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    writer = csv.writer(text, delimiter=";")
    writer.writerow(COLUMNS)
    writer.writerows(_rows(orders, tag))
    text.detach()


def _rows(orders: int, tag: str) -> Iterator[tuple[str, ...]]:
    from faker import Faker

    fake = Faker("de_DE")
    fake.seed_instance(_SEED)
    for number in range(1, orders + 1):
        yield (
            f"DEMO-{tag}-{number:06d}",
            fake.random_element((fake.company, fake.name))(),
            fake.ascii_safe_email(),
            fake.random_element(CATALOGUE)[0],
            str(fake.random_int(1, 20)),
            format_number(Decimal(fake.random_int(199, 249_999)) / 100),
            format_date(fake.date_between_dates(date(2026, 1, 1), date(2026, 12, 31))),
        )


def count(session: Session, dataset_id: int) -> Counts:
    """Count a dataset's orders and how far they have come."""
    row = session.execute(
        select(func.count(), func.count(Order.booked_at), func.count(Invoice.document), func.count(Mail.sent_at))
        .select_from(Order)
        .outerjoin(Invoice, Invoice.order_id == Order.id)
        .outerjoin(Mail, Mail.invoice_id == Order.id)
        .where(Order.dataset_id == dataset_id)
    ).one()
    return Counts(*row)


def _watch(engine: Engine, dataset_id: int, expected: int, timeout_seconds: float, console: Console) -> Counts:
    """Show progress until all mails are out or nothing has moved for too long."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    pause = Event()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("mails", total=expected)
        last = Counts(0, 0, 0, 0)
        deadline = monotonic() + timeout_seconds
        while monotonic() < deadline and not last.are_complete(expected):
            pause.wait(_LOOK_EVERY_SECONDS)
            with Session(engine) as session:
                now = count(session, dataset_id)
            if now != last:
                last, deadline = now, monotonic() + timeout_seconds
            progress.update(
                bar, completed=now.mails, description=f"{now.orders} orders, {now.invoices} invoices, mails"
            )
    return last


def _table(counts: Counts) -> Table:
    table = Table("", "count", min_width=24)
    table.columns[1].justify = "right"
    for name in ("orders", "invoices", "mails"):
        table.add_row(name, f"{getattr(counts, name):,}")
    return table


def _advice(engine: Engine, dataset_id: int, counts: Counts, expected: int) -> str:
    with Session(engine) as session:
        error = session.scalars(select(Dataset.error).where(Dataset.id == dataset_id)).one()
    if error is not None:
        return f"The import failed: {error}"
    if counts.orders == 0:
        return (
            "No worker has taken up the import.\n"
            "Start one in another terminal: pipeline worker  (or everything: ./dev run)\n"
            "The import waits in the database and then goes on by itself."
        )
    if counts.invoices == expected:
        return (
            f"Only {counts.mails:,} of {expected:,} mails are out.\n"
            "Does the mail server at PIPELINE_SMTP_HOST answer? Mails are tried again\n"
            "after 1, 2, 4, 8 and 16 minutes. See also: pipeline status"
        )
    return (
        f"Only {counts.mails:,} of {expected:,} mails are out, and nothing moves any more.\n"
        "Is the worker still running? What failed, and why, tells: pipeline status"
    )
