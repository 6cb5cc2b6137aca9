"""Invoices: issued once, with a document a customer can read."""

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from actors.errors import InvoiceUnknown
from actors.invoices import ALREADY_ISSUED, ISSUED, write_invoice
from actors.models import Invoice, Mail
from actors.orders import book_order
from tests.integration.actors.conftest import AddOrder


@pytest.fixture
def invoice_id(session: Session, add_order: AddOrder) -> int:
    order_id = add_order()
    book_order(session, order_id)
    session.commit()
    return order_id


def test_the_document_is_german_and_escapes_what_the_customer_wrote(session: Session, invoice_id: int) -> None:
    assert write_invoice(session, invoice_id) == ISSUED

    document = session.get_one(Invoice, invoice_id).document
    assert document is not None
    assert "Müller &amp; Söhne &lt;GmbH&gt;" in document
    assert "<GmbH>" not in document
    for amount in ("1.234,50\xa0€", "2.469,00\xa0€", "469,11\xa0€", "2.938,11\xa0€"):
        assert amount in document
    assert "vom 31.12.2026" in document


def test_issuing_lays_the_mail_ready(session: Session, invoice_id: int) -> None:
    write_invoice(session, invoice_id)

    mail = session.get_one(Mail, invoice_id)
    assert mail.recipient == "kunde1@firma.example"
    assert mail.subject == f"Ihre Rechnung R{invoice_id:08d}"
    assert "Guten Tag Müller & Söhne <GmbH>," in mail.body
    assert "2.938,11\xa0€" in mail.body
    assert mail.sent_at is None


def test_a_second_run_keeps_the_document_and_its_date(session: Session, invoice_id: int) -> None:
    write_invoice(session, invoice_id)
    invoice = session.get_one(Invoice, invoice_id)
    invoice.issued_on, invoice.document = date(2026, 1, 2), "as it was"
    session.commit()

    assert write_invoice(session, invoice_id) == ALREADY_ISSUED

    assert (invoice.issued_on, invoice.document) == (date(2026, 1, 2), "as it was")
    assert session.scalars(select(func.count()).select_from(Mail)).one() == 1


def test_the_day_is_the_one_in_germany_whatever_the_servers_zone(session: Session, invoice_id: int) -> None:
    session.execute(text("SET LOCAL TimeZone = 'Pacific/Kiritimati'"))
    today = session.scalars(text("SELECT (clock_timestamp() AT TIME ZONE 'Europe/Berlin')::date")).one()

    write_invoice(session, invoice_id)

    assert session.get_one(Invoice, invoice_id).issued_on == today


def test_amounts_of_any_size_fit(session: Session, add_order: AddOrder) -> None:
    order_id = add_order(quantity=1_000_000, unit_price=Decimal("9999999999.99"))
    book_order(session, order_id)

    write_invoice(session, order_id)

    assert "11.899.999.999.988.100,00\xa0€" in (session.get_one(Invoice, order_id).document or "")


def test_an_unknown_invoice_is_an_error_that_names_it(session: Session) -> None:
    with pytest.raises(InvoiceUnknown, match="4711"):
        write_invoice(session, 4711)
