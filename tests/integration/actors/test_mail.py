"""Mail over a real SMTP dialogue: delivered, refused for good, or worth another attempt."""

import smtplib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from actors.dunning import mail_dunning
from actors.errors import InvoiceNotIssued, MailNotConfigured, MailRefused
from actors.invoices import write_invoice
from actors.mail import (
    Letter,
    MailServer,
    configured_server,
    deliver,
    mail_invoice,
    mark_sent,
    send_email,
    waiting_letter,
)
from actors.models import Invoice, Mail
from actors.orders import book_order
from tests.integration.actors.conftest import AddOrder
from tests.integration.actors.mail_server import HOST, Postmaster, free_port, serving

LETTER = Letter("4711", "kunde@firma.example", "Ihre Rechnung für Mai", "Grüße aus Köln\n.\nPunkt", "<p>Größe</p>")


@pytest.fixture
def postmaster() -> Postmaster:
    return Postmaster()


@pytest.fixture
def mail_server(postmaster: Postmaster) -> Iterator[MailServer]:
    with serving(postmaster) as port:
        yield MailServer(HOST, port, "rechnung@erp.example")


def test_a_letter_arrives_as_it_was_written(mail_server: MailServer, postmaster: Postmaster) -> None:
    deliver(LETTER, mail_server)

    (mail,) = postmaster.mails
    body, document = mail.get_body(), next(mail.iter_attachments())
    assert (mail["From"], mail["To"]) == ("rechnung@erp.example", "kunde@firma.example")
    assert mail["Subject"] == "Ihre Rechnung für Mai"
    assert mail["Date"].datetime.tzinfo is not None
    assert body is not None
    assert body.get_content().splitlines() == ["Grüße aus Köln", ".", "Punkt"]
    assert document.get_filename() == "4711.html"
    assert document.get_content().strip() == "<p>Größe</p>"


def test_a_repeated_letter_is_known_by_its_message_id(mail_server: MailServer, postmaster: Postmaster) -> None:
    deliver(LETTER, mail_server)
    deliver(LETTER, mail_server)

    assert [mail["Message-ID"] for mail in postmaster.mails] == ["<4711@erp.example>"] * 2


def test_a_sender_may_have_a_name(mail_server: MailServer, postmaster: Postmaster) -> None:
    deliver(LETTER, replace(mail_server, sender="Müller GmbH <rechnung@erp.example>"))

    assert postmaster.mails[0]["Message-ID"] == "<4711@erp.example>"
    assert postmaster.mails[0]["From"].addresses[0].display_name == "Müller GmbH"


def test_a_plain_letter_has_no_attachment(mail_server: MailServer, postmaster: Postmaster) -> None:
    deliver(replace(LETTER, document=None), mail_server)

    assert list(postmaster.mails[0].iter_attachments()) == []


@pytest.mark.parametrize(
    "letter",
    [
        replace(LETTER, recipient="kunde@firma.example, spam@firma.example"),
        replace(LETTER, recipient="kunde@firma.example\r\nBcc: spam@firma.example"),
        replace(LETTER, recipient="niemand"),
        replace(LETTER, subject="Rechnung\r\nBcc: spam@firma.example"),
        replace(LETTER, subject="Rechnung\nBcc: spam@firma.example"),
        replace(LETTER, subject="Rechnung\u2028Bcc: spam@firma.example"),
        replace(LETTER, body="half a character: \ud800"),
    ],
)
def test_a_letter_that_smuggles_a_header_or_cannot_be_written_is_refused(
    letter: Letter, mail_server: MailServer, postmaster: Postmaster
) -> None:
    with pytest.raises(MailRefused):
        deliver(letter, mail_server)

    assert postmaster.mails == []


def test_a_recipient_refused_for_good_is_not_tried_again(mail_server: MailServer) -> None:
    with pytest.raises(MailRefused, match="550 No thanks"):
        deliver(replace(LETTER, recipient="550@firma.example"), mail_server)


def test_a_content_refused_for_good_is_not_tried_again(mail_server: MailServer, postmaster: Postmaster) -> None:
    postmaster.answer_to_data = "554 Spam"

    with pytest.raises(MailRefused, match="554 Spam"):
        deliver(LETTER, mail_server)


def test_a_recipient_refused_for_now_is_worth_a_retry(mail_server: MailServer) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        deliver(replace(LETTER, recipient="450@firma.example"), mail_server)


def test_a_content_refused_for_now_is_worth_a_retry(mail_server: MailServer, postmaster: Postmaster) -> None:
    postmaster.answer_to_data = "451 Greylisted"

    with pytest.raises(smtplib.SMTPDataError):
        deliver(LETTER, mail_server)


def test_a_server_that_is_away_is_worth_a_retry() -> None:
    with pytest.raises(ConnectionError):
        deliver(LETTER, MailServer(HOST, free_port(), "rechnung@erp.example"))


def test_a_broken_goodbye_does_not_send_the_mail_again(mail_server: MailServer, postmaster: Postmaster) -> None:
    postmaster.answer_to_quit = "421 Shutting down"

    deliver(LETTER, mail_server)

    assert len(postmaster.mails) == 1


def test_without_a_mail_server_the_error_names_the_setting() -> None:
    with pytest.raises(MailNotConfigured, match="PIPELINE_SMTP_HOST"):
        configured_server()


@pytest.mark.parametrize("actor", [send_email, mail_invoice, mail_dunning])
def test_mail_is_retried_after_1_2_4_8_and_16_minutes(actor: object) -> None:
    options = actor.options  # type: ignore[attr-defined]

    delays_ms = [
        min(options["min_backoff"] * 2**retry, options["max_backoff"]) for retry in range(options["max_retries"])
    ]
    assert delays_ms == [minutes * 60_000 for minutes in (1, 2, 4, 8, 16)]
    assert options["jitter"] is False


def test_an_issued_invoice_waits_to_be_mailed_until_it_is_marked(session: Session, add_order: AddOrder) -> None:
    invoice_id = add_order()
    book_order(session, invoice_id)
    write_invoice(session, invoice_id)

    letter = waiting_letter(session, invoice_id)
    mark_sent(session, invoice_id)

    assert letter is not None
    assert letter.key == f"R{invoice_id:08d}"
    assert letter.document == session.get_one(Invoice, invoice_id).document
    assert waiting_letter(session, invoice_id) is None


def test_marking_twice_keeps_the_first_time_and_counts_one_mail(session: Session, add_order: AddOrder) -> None:
    invoice_id = add_order()
    book_order(session, invoice_id)
    write_invoice(session, invoice_id)
    mark_sent(session, invoice_id)
    first = session.scalars(select(Mail.sent_at)).one()

    mark_sent(session, invoice_id)

    assert session.scalars(select(Mail.sent_at)).one() == first
    assert session.scalars(select(func.count(Mail.sent_at))).one() == 1


def test_an_invoice_without_a_document_cannot_be_mailed(session: Session, add_order: AddOrder) -> None:
    invoice_id = add_order()
    book_order(session, invoice_id)

    with pytest.raises(InvoiceNotIssued):
        waiting_letter(session, invoice_id)
