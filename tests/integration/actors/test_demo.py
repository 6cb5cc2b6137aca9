"""The demo's own parts: a file that can be imported, counts that tell the truth, advice that helps."""

import io

import pytest
from click.testing import CliRunner
from sqlalchemy.orm import Session

from actors.datasets import read_batches, save_batch, start_dataset, store_dataset
from actors.demo import Counts, count, demo, write_orders
from actors.invoices import write_invoice
from actors.mail import mark_sent
from actors.order_csv import OrderRow, read_layout
from actors.orders import book_order


def file_of(orders: int, tag: str = "t") -> io.BytesIO:
    file = io.BytesIO()
    write_orders(file, orders, tag)
    file.seek(0)
    return file


def test_every_row_of_the_file_is_an_order() -> None:
    file = file_of(200)
    layout = read_layout(file)

    (batch,) = read_batches(file, layout, layout.start)

    assert (layout.encoding, layout.delimiter) == ("utf-8", ";")
    assert all(isinstance(row, OrderRow) for row in batch.rows)
    assert len({row.number for row in batch.rows if isinstance(row, OrderRow)}) == 200


def test_the_same_tag_gives_the_same_file() -> None:
    assert file_of(20).getvalue() == file_of(20).getvalue()
    assert file_of(20).getvalue() != file_of(20, tag="u").getvalue()


def test_an_order_is_counted_at_each_station_once(session: Session) -> None:
    file = file_of(4)
    layout = read_layout(file)
    (batch,) = read_batches(file, layout, layout.start)
    dataset_id = start_dataset(session, store_dataset(session, "demo.csv", file))
    first, second, third, _ = save_batch(session, dataset_id, batch.rows)

    for order_id in (first, second, third):
        book_order(session, order_id)
    for order_id in (first, second):
        write_invoice(session, order_id)
    mark_sent(session, first)

    assert count(session, dataset_id) == Counts(orders=4, booked=3, invoices=2, mails=1)


@pytest.mark.usefixtures("broker")
def test_without_a_worker_the_demo_ends_and_says_what_to_do() -> None:
    result = CliRunner().invoke(demo, ["--orders", "3", "--timeout", "0.5"])

    assert result.exit_code == 1
    assert "pipeline worker" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_the_counts_must_agree() -> None:
    assert Counts(5, 5, 5, 5).are_complete(5)
    assert not Counts(5, 5, 5, 4).are_complete(5)
    assert not Counts(4, 4, 4, 4).are_complete(5)
