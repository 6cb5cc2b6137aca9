"""Dunning: each overdue invoice is dunned level by level, each level once, and never what has been paid."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from actors.days import german_today
from actors.dunning import TERM, TITLES, dun, mail_dunning, send_dunning_mails, waiting_letter
from actors.errors import NotDunned
from actors.invoices import write_invoice
from actors.mail import MailServer
from actors.models import DunningMail, Invoice, Payment
from actors.orders import book_order
from pipeline.testing import drain, enqueued
from tests.integration.actors.conftest import AddOrder
from tests.integration.actors.mail_server import HOST, Postmaster, serving

AddInvoice = Callable[..., int]


@pytest.fixture
def add_invoice(session: Session, add_order: AddOrder) -> AddInvoice:
    """Store an invoice that was issued so many days ago."""

    def add(days: int, *, is_paid: bool = False) -> int:
        invoice_id = add_order()
        book_order(session, invoice_id)
        write_invoice(session, invoice_id)
        session.get_one(Invoice, invoice_id).issued_on = german_today(session) - timedelta(days=days)
        if is_paid:
            session.add(Payment(invoice_id=invoice_id, paid_on=german_today(session)))
        session.commit()
        return invoice_id

    return add


@pytest.fixture
def days_pass(session: Session) -> Callable[[int], None]:
    """Let all invoices and mails be so many days older."""

    def pass_(days: int) -> None:
        session.execute(update(Invoice).values(issued_on=Invoice.issued_on - timedelta(days=days)))
        session.execute(update(DunningMail).values(dunned_on=DunningMail.dunned_on - timedelta(days=days)))
        session.commit()

    return pass_


@pytest.fixture
def postmaster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postmaster]:
    postmaster = Postmaster()
    with serving(postmaster) as port:
        monkeypatch.setattr("actors.mail.configured_server", lambda: MailServer(HOST, port, "buchhaltung@erp.example"))
        yield postmaster


def dunned(session: Session) -> list[tuple[int, int]]:
    found = dun(session)
    session.commit()
    return sorted(found)


def test_only_what_is_overdue_and_not_paid_is_dunned(session: Session, add_invoice: AddInvoice) -> None:
    add_invoice(TERM.days)
    late = add_invoice(TERM.days + 1)
    add_invoice(100, is_paid=True)

    assert dunned(session) == [(late, 1)]


def test_the_same_day_nobody_is_dunned_twice(session: Session, add_invoice: AddInvoice) -> None:
    invoice_id = add_invoice(100)

    assert dunned(session) == [(invoice_id, 1)]
    assert dunned(session) == []


def test_each_level_follows_when_the_term_of_the_last_mail_is_over(
    session: Session, add_invoice: AddInvoice, days_pass: Callable[[int], None]
) -> None:
    invoice_id = add_invoice(100)

    levels = []
    for _ in range(5):
        levels += dunned(session)
        days_pass(TERM.days)
        levels += dunned(session)
        days_pass(1)

    assert levels == [(invoice_id, level) for level in range(1, len(TITLES) + 1)]


def test_a_mail_says_what_is_due_until_when_and_what_follows_the_last_one(
    session: Session, add_invoice: AddInvoice, days_pass: Callable[[int], None]
) -> None:
    invoice_id = add_invoice(20)
    while dunned(session):
        days_pass(TERM.days + 1)

    first, second, last = session.scalars(select(DunningMail).order_by(DunningMail.level))
    assert first.subject == f"Zahlungserinnerung zur Rechnung R{invoice_id:08d}"
    assert "Guten Tag Müller & Söhne <GmbH>," in first.body
    assert "über 2.938,11\xa0€ war am" in first.body
    assert "Inkassobüro" not in first.body + second.body
    assert "Inkassobüro" in last.body
    assert last.subject.startswith("Letzte Mahnung")


def test_two_at_once_dun_once(erp: Engine, add_invoice: AddInvoice) -> None:
    ids = [add_invoice(100 + n) for n in range(5)]

    def run(_number: int) -> list[tuple[int, int]]:
        with Session(erp) as own, own.begin():
            return dun(own)

    with ThreadPoolExecutor(4) as pool:
        found = [each for written in pool.map(run, range(4)) for each in written]

    assert sorted(found) == [(invoice_id, 1) for invoice_id in sorted(ids)]


def test_an_invoice_that_was_not_dunned_has_no_letter(session: Session, add_invoice: AddInvoice) -> None:
    with pytest.raises(NotDunned, match="no dunning mail of level 2"):
        waiting_letter(session, add_invoice(0), 2)


@pytest.mark.usefixtures("broker")
def test_what_is_written_is_mailed_once(session: Session, add_invoice: AddInvoice, postmaster: Postmaster) -> None:
    invoice_id = add_invoice(20)
    for _ in range(2):
        send_dunning_mails.send()
    answers = [(run.actor, run.result) for run in drain()]
    mail_dunning.send(invoice_id, 1)
    answers += [(run.actor, run.result) for run in drain()]

    assert sorted(result for actor, result in answers if actor == "send_dunning_mails") == [0, 1]
    assert [result for actor, result in answers if actor == "mail_dunning"].count("sent") == 1
    (mail,) = postmaster.mails
    assert mail["Message-ID"] == f"<R{invoice_id:08d}-1@erp.example>"
    assert mail["To"] == "kunde1@firma.example"
    assert next(mail.iter_attachments()).get_filename() == f"R{invoice_id:08d}-1.html"
    assert session.scalars(select(func.count(DunningMail.sent_at))).one() == 1


@pytest.mark.usefixtures("broker")
def test_what_is_paid_before_its_mail_goes_out_is_not_mailed(
    session: Session, add_invoice: AddInvoice, postmaster: Postmaster
) -> None:
    invoice_id = add_invoice(20)
    assert dunned(session) == [(invoice_id, 1)]
    session.add(Payment(invoice_id=invoice_id, paid_on=date(2026, 12, 31)))
    session.commit()
    mail_dunning.send(invoice_id, 1)

    assert [run.result for run in drain()] == ["paid meanwhile"]
    assert postmaster.mails == []


@pytest.mark.usefixtures("broker")
def test_a_run_that_fails_leaves_neither_mails_nor_messages(
    session: Session, add_invoice: AddInvoice, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_invoice(20)

    def stumble(messages: object) -> None:
        raise ConnectionError(messages)

    monkeypatch.setattr("actors.dunning.send_many", stumble)
    send_dunning_mails.send_with_options(max_retries=0)
    drain(raise_errors=False)

    assert session.scalars(select(func.count()).select_from(DunningMail)).one() == 0
    assert enqueued() == []
