"""The actors at work: from a file to the mails, through every accident once."""

import io
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dramatiq import Worker
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from actors import datasets
from actors.datasets import import_orders, store_dataset
from actors.demo import Counts, count, demo, write_orders
from actors.invoices import issue_invoice
from actors.mail import MailServer, mail_invoice, send_email
from actors.models import Dataset, DatasetState, Product
from actors.orders import order_chain, process_order
from actors.reports import monthly_report
from pipeline import PostgresBroker, enlist
from pipeline.states import Outcome
from pipeline.testing import assert_enqueued, assert_not_enqueued, drain, enqueued, run_pending
from tests.fixtures.wait import eventually
from tests.integration.actors.conftest import AddOrder
from tests.integration.actors.mail_server import HOST, Postmaster, serving

WAIT_MS = 20_000


@pytest.fixture
def postmaster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postmaster]:
    """The mail server that the actors are configured to use."""
    postmaster = Postmaster()
    with serving(postmaster) as port:
        monkeypatch.setattr("actors.mail.configured_server", lambda: MailServer(HOST, port, "rechnung@erp.example"))
        yield postmaster


@pytest.fixture
def worker(broker: PostgresBroker) -> Iterator[Worker]:
    worker = Worker(broker, worker_threads=4, worker_timeout=100)
    worker.start()
    yield worker
    worker.stop()


def upload(erp: Engine, content: bytes) -> tuple[int, Any]:
    """Store a file and send its import in one transaction; return the dataset's id and the message."""
    with Session(erp) as session, session.begin(), enlist(session):
        dataset_id = store_dataset(session, "orders.csv", io.BytesIO(content))
        return dataset_id, import_orders.send(dataset_id)


def orders_file(orders: int) -> bytes:
    file = io.BytesIO()
    write_orders(file, orders, tag="t")
    return file.getvalue()


def counts_of(erp: Engine, dataset_id: int) -> Counts:
    with Session(erp) as session:
        return count(session, dataset_id)


@pytest.mark.usefixtures("worker")
def test_every_order_of_a_file_is_booked_invoiced_and_mailed_once(erp: Engine, postmaster: Postmaster) -> None:
    dataset_id, message = upload(erp, orders_file(40))

    report = message.get_result(block=True, timeout=WAIT_MS)
    eventually(lambda: counts_of(erp, dataset_id).are_complete(40), within=20)

    assert (report["orders"], report["rejected"]) == (40, 0)
    assert len({mail["Message-ID"] for mail in postmaster.mails}) == len(postmaster.mails) == 40


@pytest.mark.usefixtures("worker", "postmaster")
def test_the_demo_ends_well(broker: PostgresBroker) -> None:
    result = CliRunner().invoke(demo, ["--orders", "20", "--timeout", "20"])

    assert result.exit_code == 0, result.output
    assert "20 orders, 20 invoices, 20 mails" in result.output


def test_an_upload_and_its_import_commit_together(broker: PostgresBroker, erp: Engine) -> None:
    with Session(erp) as session:
        with enlist(session):
            dataset_id = store_dataset(session, "orders.csv", io.BytesIO(b""))
            import_orders.send(dataset_id)
        assert_enqueued(import_orders, dataset_id, within=session, queue="imports", count=1)
        assert_not_enqueued(import_orders)
        session.rollback()

    assert_not_enqueued(import_orders)


@pytest.mark.usefixtures("broker")
def test_an_order_sent_twice_answers_already_processed(add_order: AddOrder) -> None:
    order_id = add_order()
    for _ in range(2):
        process_order.send(order_id)

    assert [run.result for run in drain()] == ["booked", "already processed"]


@pytest.mark.usefixtures("broker")
def test_a_chain_sent_twice_mails_once(add_order: AddOrder, postmaster: Postmaster) -> None:
    order_id = add_order()
    for _ in range(2):
        order_chain(order_id).run()

    answers = [run.result for run in drain() if run.actor == "mail_invoice"]

    assert answers == ["sent", "already sent"]
    assert len(postmaster.mails) == 1


@pytest.mark.usefixtures("broker")
def test_a_chain_goes_on_step_by_step(add_order: AddOrder, postmaster: Postmaster) -> None:
    order_id = add_order()
    order_chain(order_id).run()

    for actor in (process_order, issue_invoice, mail_invoice):
        assert_enqueued(actor, order_id, count=1)
        assert postmaster.mails == []
        run_pending(limit=1)

    assert enqueued() == []
    assert len(postmaster.mails) == 1


@pytest.mark.usefixtures("broker", "postmaster")
def test_what_became_of_an_upload_an_order_and_its_invoice_is_a_query_each(erp: Engine, rows: Any) -> None:
    with Session(erp) as session, session.begin(), enlist(session):
        dataset_id = store_dataset(session, "orders.csv", io.BytesIO(orders_file(1)))
        import_orders.send_with_options(args=(dataset_id,), correlation_id="upload-7")
    drain()

    question = "SELECT actor, entity FROM pipeline.task_status WHERE correlation_id = 'upload-7' ORDER BY id"
    (_, dataset), (_, order), *invoices = rows(question)
    order_id = order.removeprefix("order:")
    assert dataset == f"dataset:{dataset_id}"
    assert invoices == [("issue_invoice", f"invoice:{order_id}"), ("mail_invoice", f"invoice:{order_id}")]
    assert rows("SELECT actor FROM pipeline.task_status WHERE tags = '{mail}'") == [("mail_invoice",)]


@pytest.mark.usefixtures("broker")
def test_too_little_stock_fails_the_order_without_a_retry_and_ends_its_chain(
    erp: Engine, add_order: AddOrder, postmaster: Postmaster
) -> None:
    with Session(erp) as session, session.begin():
        session.execute(update(Product).values(stock=0))
    order_chain(add_order(number="B-77")).run()

    (run,) = drain(raise_errors=False)

    assert (run.actor, run.outcome, run.attempt) == ("process_order", Outcome.FAILED, 1)
    assert str(run.error) == "Order B-77 asks for 2 of article A-1001, but only 0 are in stock."
    assert postmaster.mails == []


@pytest.mark.usefixtures("broker")
def test_wrong_columns_fail_the_import_and_say_so_in_both_places(erp: Engine) -> None:
    dataset_id, _ = upload(erp, b"Name;Preis\nx;1\n")

    (run,) = drain(raise_errors=False)

    assert (run.outcome, run.attempt) == (Outcome.FAILED, 1)
    assert "found 'Name', 'Preis'." in str(run.error)
    with Session(erp) as session:
        dataset = session.get_one(Dataset, dataset_id)
    assert (dataset.state, dataset.error) == (DatasetState.FAILED, str(run.error))


@pytest.mark.usefixtures("broker", "postmaster")
def test_an_import_goes_on_behind_its_last_step(erp: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    save_batch, saved = datasets.save_batch, list[int]()

    def stumble_at_the_second(session: Session, dataset_id: int, rows: Any) -> list[int]:
        order_ids = save_batch(session, dataset_id, rows)
        saved.append(rows[0].row)
        if len(saved) == 2:
            raise ConnectionError("stumbled after writing, before the commit")
        return order_ids

    monkeypatch.setattr(datasets, "ROWS_PER_STEP", 5)
    monkeypatch.setattr(datasets, "save_batch", stumble_at_the_second)
    dataset_id, message = upload(erp, orders_file(12))

    drain()
    report = message.get_result()

    assert saved == [2, 7, 7, 12]
    assert (report["orders"], report["rejected"]) == (12, 0)
    assert counts_of(erp, dataset_id).are_complete(12)


@pytest.mark.usefixtures("broker", "postmaster")
def test_a_file_on_the_workers_disk_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "mai.csv"
    path.write_bytes(orders_file(3))
    for _ in range(2):
        import_orders.send(str(path))

    first, second = (run.result for run in drain() if run.actor == "import_orders")

    assert (first["orders"], first["rejected"]) == (3, 0)
    assert (second["orders"], second["rejected"]) == (0, 3)
    assert second["rejections"][0] == {"row": 2, "reason": "order DEMO-t-000001 is already imported"}


@pytest.mark.usefixtures("broker")
def test_a_plain_mail_carries_its_tasks_id(postmaster: Postmaster) -> None:
    message = send_email.send("kunde@firma.example", "Guten Tag", "Grüße")

    assert [run.result for run in drain()] == ["sent"]
    assert postmaster.mails[0]["Message-ID"] == f"<{message.message_id}@erp.example>"


@pytest.mark.usefixtures("broker")
def test_a_mail_server_that_stays_busy_is_asked_six_times(postmaster: Postmaster) -> None:
    postmaster.answer_to_data = "451 Greylisted"
    send_email.send("kunde@firma.example", "Guten Tag", "Grüße")

    runs = drain(raise_errors=False)

    assert [run.outcome for run in runs] == [Outcome.RETRY] * 5 + [Outcome.FAILED]
    assert {type(run.error) for run in runs} == {smtplib.SMTPDataError}


@pytest.mark.usefixtures("broker")
def test_the_monthly_report_is_a_result() -> None:
    message = monthly_report.send(2026, 12)
    drain()
    report = message.get_result()

    assert (report["invoices"], report["total"]) == (0, "0.00")
