"""Datasets: every good row becomes one order, every other row a reason."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from actors.datasets import (
    ROWS_PER_STEP,
    copy_content,
    fail_dataset,
    finish_dataset,
    open_path,
    read_batches,
    save_batch,
    start_dataset,
    store_dataset,
)
from actors.errors import DatasetUnknown, FileUnreadable
from actors.models import Dataset, DatasetPart, DatasetState, Order, RowRejection
from actors.order_csv import COLUMNS, OrderRow, RejectedRow, read_layout

HEADER = ";".join(COLUMNS)


def order_line(number: str, article: str = "A-1001") -> str:
    return f"{number};Müller GmbH;einkauf@mueller.example;{article};2;1.234,56;31.12.2026"


def content_of(*lines: str) -> bytes:
    return "\n".join([HEADER, *lines]).encode()


def rows_of(content: bytes) -> list[OrderRow | RejectedRow]:
    file = io.BytesIO(content)
    layout = read_layout(file)
    return [row for batch in read_batches(file, layout, layout.start) for row in batch.rows]


def upload(session: Session, content: bytes) -> int:
    dataset_id = store_dataset(session, "orders.csv", io.BytesIO(content))
    return start_dataset(session, dataset_id)


def order_numbers(session: Session) -> Sequence[str]:
    return session.scalars(select(Order.number).order_by(Order.dataset_row)).all()


def rejections(session: Session, dataset_id: int) -> dict[int, str]:
    rows = session.scalars(select(RowRejection).where(RowRejection.dataset_id == dataset_id))
    return {row.row_number: row.reason for row in rows}


def test_an_upload_is_kept_byte_for_byte_in_pieces(session: Session) -> None:
    content = bytes(range(256)) * 4000
    dataset_id = store_dataset(session, "orders.csv", io.BytesIO(content))
    copy = io.BytesIO()

    copy_content(session, dataset_id, copy)

    assert copy.getvalue() == content
    assert session.scalars(select(func.count()).select_from(DatasetPart)).one() == 4


def test_an_empty_upload_is_kept_too(session: Session) -> None:
    dataset_id = store_dataset(session, "orders.csv", io.BytesIO())
    copy = io.BytesIO()

    copy_content(session, dataset_id, copy)

    assert copy.getvalue() == b""


def test_good_rows_become_orders_and_bad_ones_reasons(session: Session) -> None:
    content = content_of(order_line("B-1"), "unsinn", order_line("B-2", article="X-1"), order_line("B-3"))
    dataset_id = upload(session, content)

    order_ids = save_batch(session, dataset_id, rows_of(content))

    assert order_numbers(session) == ["B-1", "B-3"]
    assert order_ids == session.scalars(select(Order.id).order_by(Order.id)).all()
    assert rejections(session, dataset_id) == {
        3: "expected 7 fields, found 1",
        4: "Artikel 'X-1' is not in the catalogue",
    }


def test_the_same_rows_again_give_no_second_order_and_no_second_chain(session: Session) -> None:
    content = content_of(order_line("B-1"), "unsinn", order_line("B-2"))
    dataset_id = upload(session, content)
    save_batch(session, dataset_id, rows_of(content))

    assert save_batch(session, dataset_id, rows_of(content)) == []
    assert order_numbers(session) == ["B-1", "B-2"]
    assert list(rejections(session, dataset_id)) == [3]


def test_the_same_file_again_is_reported_as_already_imported(session: Session) -> None:
    content = content_of(order_line("B-1"), order_line("B-2"))
    save_batch(session, upload(session, content), rows_of(content))
    second_id = upload(session, content)

    assert save_batch(session, second_id, rows_of(content)) == []
    assert order_numbers(session) == ["B-1", "B-2"]
    assert rejections(session, second_id) == {
        2: "order B-1 is already imported",
        3: "order B-2 is already imported",
    }


def test_a_number_that_stands_twice_in_a_file_is_imported_once(session: Session) -> None:
    content = content_of(order_line("B-1"), order_line("B-1"))
    dataset_id = upload(session, content)

    assert len(save_batch(session, dataset_id, rows_of(content))) == 1
    assert rejections(session, dataset_id) == {3: "order B-1 is already imported"}


def test_a_batch_of_bad_rows_gives_no_orders(session: Session) -> None:
    content = content_of("unsinn")
    dataset_id = upload(session, content)

    assert save_batch(session, dataset_id, rows_of(content)) == []


def test_batches_have_the_size_of_a_step_and_the_rest_comes_last() -> None:
    file = io.BytesIO(content_of(*(order_line(f"B-{number}") for number in range(ROWS_PER_STEP * 2 + 7))))
    layout = read_layout(file)

    batches = list(read_batches(file, layout, layout.start))

    assert [len(batch.rows) for batch in batches] == [ROWS_PER_STEP, ROWS_PER_STEP, 7]
    assert list(read_batches(file, layout, batches[0].end)) == batches[1:]


def test_the_report_counts_what_became_of_the_rows(session: Session) -> None:
    content = content_of(order_line("B-1"), *["unsinn"] * 30)
    dataset_id = upload(session, content)
    save_batch(session, dataset_id, rows_of(content))

    report = finish_dataset(session, dataset_id)

    assert (report["state"], report["orders"], report["rejected"]) == ("imported", 1, 30)
    assert report["rejections"][0] == {"row": 3, "reason": "expected 7 fields, found 1"}
    assert len(report["rejections"]) == 20


def test_a_failed_dataset_says_why_and_may_be_started_again(erp: Engine, session: Session) -> None:
    dataset_id = upload(session, b"")
    fail_dataset(session, dataset_id, "The file is empty.")
    session.commit()

    dataset = session.get_one(Dataset, dataset_id)
    assert (dataset.state, dataset.error) == (DatasetState.FAILED, "The file is empty.")
    assert dataset.finished_at is not None

    start_dataset(session, dataset_id)
    assert (dataset.state, dataset.error, dataset.finished_at) == (DatasetState.IMPORTING, None, None)


def test_a_path_becomes_a_dataset(session: Session, tmp_path: Path) -> None:
    dataset = session.get_one(Dataset, start_dataset(session, str(tmp_path / "mai.csv")))

    assert (dataset.name, dataset.path) == ("mai.csv", str(tmp_path / "mai.csv"))


def test_an_unknown_dataset_is_an_error_that_names_it(session: Session) -> None:
    with pytest.raises(DatasetUnknown, match="4711"):
        start_dataset(session, 4711)


def test_a_file_is_opened_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "mai.csv"
    path.write_bytes(b"abc")

    with open_path(str(path)) as file:
        assert file.read() == b"abc"


def test_a_path_that_is_no_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.csv"):
        with pytest.raises(FileUnreadable, match=str(path)):
            open_path(str(path))
