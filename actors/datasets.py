"""Datasets: files of orders, from the upload to the last order."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, TypedDict

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from actors.errors import DatasetUnknown, ErpError, FileUnreadable
from actors.models import Dataset, DatasetPart, DatasetState, Order, Product, RowRejection
from actors.order_csv import Layout, OrderRow, Position, RejectedRow, read_layout, read_rows
from actors.orders import first_step
from pipeline import actor, current_task, send_many

ROWS_PER_STEP = 500

_PART_BYTES = 262_144
_SHOWN_REJECTIONS = 20


class Rejection(TypedDict):
    """A row that did not become an order."""

    row: int
    reason: str


class ImportReport(TypedDict):
    """What became of a dataset; ``rejections`` shows the first of them, all stand in ``erp.row_rejection``."""

    dataset_id: int
    state: str
    orders: int
    rejected: int
    rejections: list[Rejection]


@dataclass(frozen=True, slots=True)
class ImportCursor:
    """How far an import has come; row 0 stands before the header."""

    dataset_id: int
    row: int = 0
    offset: int = 0

    def after(self, position: Position) -> "ImportCursor":
        """Return the cursor for an import that has read up to the position."""
        return ImportCursor(self.dataset_id, position.row, position.offset)

    def start(self, layout: Layout) -> Position:
        """Return where reading goes on."""
        return Position(self.row, self.offset) if self.row else layout.start


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one step and the position after them."""

    rows: list[OrderRow | RejectedRow]
    end: Position


def entity_of(path_or_id: str | int) -> str | None:
    """Name the dataset that an import is about; one that reads a path makes its dataset only when it runs."""
    return None if isinstance(path_or_id, str) else f"dataset:{path_or_id}"


@actor(queue_name="imports", max_retries=5, throws=(ErpError,), entity=entity_of)
def import_orders(path_or_id: str | int) -> ImportReport:
    """Import a file of orders and send each order on its way.

    Takes the id of an uploaded dataset, or the path of a file that the worker can read. Safe to run twice: orders, the
    first steps of their chains and the position in the file commit together, 500 rows at a time, and a later run goes
    on from there. An order number that exists already is reported and not imported again.
    """
    cursor = _begin(path_or_id)
    try:
        end = _import_rows(cursor)
    except FileUnreadable as error:
        with _step(cursor) as session:
            fail_dataset(session, cursor.dataset_id, str(error))
        raise
    with _step(end) as session:
        report = finish_dataset(session, cursor.dataset_id)
    current_task().report(percent=100, note=f"{report['orders']} orders, {report['rejected']} rows rejected")
    return report


def _begin(path_or_id: str | int) -> ImportCursor:
    task = current_task()
    stored = task.checkpoint()
    if stored is not None:
        return ImportCursor(**stored)
    with task.step() as step:
        cursor = ImportCursor(start_dataset(step.session, path_or_id))
        step.cursor = asdict(cursor)
    return cursor


def _import_rows(cursor: ImportCursor) -> ImportCursor:
    with _opened_file(cursor) as file:
        size = file.seek(0, os.SEEK_END)
        layout = read_layout(file)
        for batch in read_batches(file, layout, cursor.start(layout)):
            cursor = cursor.after(batch.end)
            with _step(cursor) as session:
                order_ids = save_batch(session, cursor.dataset_id, batch.rows)
                send_many(first_step(order_id) for order_id in order_ids)
            current_task().report(done=cursor.offset, total=size, step="import", note=f"row {cursor.row}")
    return cursor


@contextmanager
def _opened_file(cursor: ImportCursor) -> Iterator[BinaryIO]:
    """Open the dataset's file; an upload is copied to a nameless file, which vanishes with the process."""
    with _step(cursor) as session:
        path = session.scalars(select(Dataset.path).where(Dataset.id == cursor.dataset_id)).one()
    if path is not None:
        with open_path(path) as file:
            yield file
        return
    with TemporaryFile() as copy:
        with _step(cursor) as session:
            copy_content(session, cursor.dataset_id, copy)
        yield copy


@contextmanager
def _step(cursor: ImportCursor) -> Iterator[Session]:
    """Open a step that leaves the cursor behind: all that the block writes and sends commits with it, or nothing."""
    with current_task().step() as step:
        step.cursor = asdict(cursor)
        yield step.session


def store_dataset(session: Session, name: str, stream: BinaryIO) -> int:
    """Store an uploaded file piece by piece and return its dataset's id, for ``import_orders``.

    Send the import in the same transaction, and there is never a dataset that nobody imports.
    """
    dataset = Dataset(name=name)
    session.add(dataset)
    session.flush()
    for position, content in enumerate(iter(partial(stream.read, _PART_BYTES), b"")):
        session.execute(insert(DatasetPart).values(dataset_id=dataset.id, position=position, content=content))
    return dataset.id


def copy_content(session: Session, dataset_id: int, target: BinaryIO) -> None:
    """Write an uploaded file's bytes to the target, a few pieces at a time."""
    parts = select(DatasetPart.content).where(DatasetPart.dataset_id == dataset_id).order_by(DatasetPart.position)
    for content in session.scalars(parts.execution_options(yield_per=8)):
        target.write(content)


def open_path(path: str) -> BinaryIO:
    """Open a file that lies where the worker can read it; raises ``FileUnreadable``."""
    # Opening a named pipe would wait for its writer, perhaps for ever.
    if not Path(path).is_file():
        raise FileUnreadable(f"There is no file {path!r} on this worker's machine.")
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise FileUnreadable(f"The file {path!r} cannot be opened: {error.strerror}.") from error


def start_dataset(session: Session, path_or_id: str | int) -> int:
    """Mark a dataset as being imported, after making one for a path; raises ``DatasetUnknown``."""
    if isinstance(path_or_id, str):
        dataset = Dataset(name=Path(path_or_id).name, path=path_or_id)
        session.add(dataset)
    else:
        dataset = _locked(session, path_or_id)
    dataset.state, dataset.error, dataset.finished_at = DatasetState.IMPORTING, None, None
    session.flush()
    return dataset.id


def fail_dataset(session: Session, dataset_id: int, error: str) -> None:
    """Record why nothing was imported."""
    dataset = _locked(session, dataset_id)
    dataset.state, dataset.error, dataset.finished_at = DatasetState.FAILED, error, func.clock_timestamp()


def finish_dataset(session: Session, dataset_id: int) -> ImportReport:
    """Mark the dataset as imported and count what became of its rows."""
    dataset = _locked(session, dataset_id)
    dataset.state, dataset.finished_at = DatasetState.IMPORTED, func.clock_timestamp()
    orders = select(func.count()).where(Order.dataset_id == dataset_id)
    rejected = select(func.count()).where(RowRejection.dataset_id == dataset_id)
    return ImportReport(
        dataset_id=dataset_id,
        state=dataset.state.value,
        orders=session.scalars(orders).one(),
        rejected=session.scalars(rejected).one(),
        rejections=_first_rejections(session, dataset_id),
    )


def _locked(session: Session, dataset_id: int) -> Dataset:
    dataset = session.get(Dataset, dataset_id, with_for_update=True)
    if dataset is None:
        raise DatasetUnknown(dataset_id)
    return dataset


def _first_rejections(session: Session, dataset_id: int) -> list[Rejection]:
    rows = session.execute(
        select(RowRejection.row_number, RowRejection.reason)
        .where(RowRejection.dataset_id == dataset_id)
        .order_by(RowRejection.row_number)
        .limit(_SHOWN_REJECTIONS)
    )
    return [Rejection(row=row, reason=reason) for row, reason in rows]


def read_batches(file: BinaryIO, layout: Layout, start: Position) -> Iterator[Batch]:
    """Yield the rows after a position, ``ROWS_PER_STEP`` at a time."""
    rows = read_rows(file, layout, start)
    while chunk := list(islice(rows, ROWS_PER_STEP)):
        yield Batch([row for row, _ in chunk], chunk[-1][1])


def save_batch(session: Session, dataset_id: int, rows: Sequence[OrderRow | RejectedRow]) -> list[int]:
    """Store good rows as orders and bad ones with their reason; return the ids of the new orders.

    Safe to run twice: a row that is stored already is passed over, so it gives no second order and no second chain.
    """
    good = [row for row in rows if isinstance(row, OrderRow)]
    rejected = [row for row in rows if isinstance(row, RejectedRow)]
    products = _product_ids(session, good)
    known = [row for row in good if row.article in products]
    rejected += _unknown(row for row in good if row.article not in products)
    order_ids = _insert_orders(session, dataset_id, known, products)
    rejected += _repeated(session, dataset_id, [row for row in known if row.row not in order_ids])
    _insert_rejections(session, dataset_id, rejected)
    return sorted(order_ids.values())


def _product_ids(session: Session, rows: Iterable[OrderRow]) -> dict[str, int]:
    articles = {row.article for row in rows}
    found = session.execute(select(Product.article, Product.id).where(Product.article.in_(articles)))
    return dict(found.all())


def _unknown(rows: Iterable[OrderRow]) -> list[RejectedRow]:
    return [RejectedRow(row.row, f"Artikel {row.article!r} is not in the catalogue") for row in rows]


def _insert_orders(
    session: Session, dataset_id: int, rows: Sequence[OrderRow], products: dict[str, int]
) -> dict[int | None, int]:
    """Insert the orders whose numbers are new; return their ids by row."""
    if not rows:
        return {}
    values = [
        {
            "number": row.number,
            "customer": row.customer,
            "email": row.email,
            "product_id": products[row.article],
            "quantity": row.quantity,
            "unit_price": row.unit_price,
            "ordered_on": row.ordered_on,
            "dataset_id": dataset_id,
            "dataset_row": row.row,
        }
        for row in rows
    ]
    statement = insert(Order).on_conflict_do_nothing(index_elements=[Order.number])
    inserted = session.execute(statement.returning(Order.dataset_row, Order.id), values)
    return dict(inserted.all())


def _repeated(session: Session, dataset_id: int, rows: Sequence[OrderRow]) -> list[RejectedRow]:
    """Report the rows whose order exists, except those that are that very order."""
    if not rows:
        return []
    found = session.execute(
        select(Order.number, Order.dataset_id, Order.dataset_row).where(Order.number.in_({row.number for row in rows}))
    )
    origins = {number: (origin_id, row) for number, origin_id, row in found}
    return [
        RejectedRow(row.row, f"order {row.number} is already imported")
        for row in rows
        if origins.get(row.number) != (dataset_id, row.row)
    ]


def _insert_rejections(session: Session, dataset_id: int, rows: Iterable[RejectedRow]) -> None:
    values = [{"dataset_id": dataset_id, "row_number": row.row, "reason": row.reason} for row in rows]
    if values:
        session.execute(insert(RowRejection).on_conflict_do_nothing(), values)
