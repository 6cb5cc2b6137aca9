"""Dunning: customers who have not paid in time are reminded, again and again, but only so often."""

from datetime import date, timedelta

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from actors import mail
from actors.days import german_today
from actors.errors import ErpError, NotDunned
from actors.letters import render
from actors.mail import Letter, deliver
from actors.models import DunningMail, Invoice, Payment
from pipeline import actor, current_task, send_many

PAID = "paid meanwhile"

TITLES = ("Zahlungserinnerung", "Mahnung", "Letzte Mahnung")
#: A customer has so long to pay, and after each mail as long again.
TERM = timedelta(days=14)

_MOST = 500
_MINUTE_MS = 60_000


@actor(queue_name="invoices", max_retries=5, transactional=True, throws=(ErpError,), tags=["dunning"])
def send_dunning_mails() -> int:
    """Dun the longest overdue invoices, 500 at most; return how many.

    Safe to run twice, also at the same time: each invoice has one mail for each level, and mails, the messages that
    send them and the end of the task commit together.
    """
    written = dun(current_task().session)
    send_many([mail_dunning.message(invoice_id, level) for invoice_id, level in written])
    return len(written)


@actor(
    queue_name="mail",
    max_retries=5,
    min_backoff=_MINUTE_MS,
    max_backoff=16 * _MINUTE_MS,
    jitter=False,
    throws=(ErpError,),
    tags=["mail", "dunning"],
    entity=lambda invoice_id, *_, **__: f"invoice:{invoice_id}",
)
def mail_dunning(invoice_id: int, level: int) -> str:
    """Mail what was written to dun an invoice, unless it has been paid meanwhile.

    Safe to run twice, and at least once all the same, as ``mail_invoice`` is.
    """
    task = current_task()
    task.checkpoint()
    with task.step() as step:
        if is_paid(step.session, invoice_id):
            return PAID
        letter = waiting_letter(step.session, invoice_id, level)
    if letter is None:
        return mail.ALREADY_SENT

    deliver(letter, mail.configured_server())
    with task.step() as step:
        mark_sent(step.session, invoice_id, level)
    return mail.SENT


def dun(session: Session) -> list[tuple[int, int]]:
    """Write the next mail for each overdue invoice whose last one is old enough; return their invoices and levels."""
    today = german_today(session)
    mails = [_mail_of(invoice, level, today) for invoice, level in _overdue(session, today)]
    if not mails:
        return []
    # Who duns at the same moment is waited for, and what he has written is not written again.
    written = insert(DunningMail).on_conflict_do_nothing().returning(DunningMail.invoice_id, DunningMail.level)
    return [(invoice_id, level) for invoice_id, level in session.execute(written, mails)]


def is_paid(session: Session, invoice_id: int) -> bool:
    """Tell whether an invoice is paid."""
    return session.get(Payment, invoice_id) is not None


def waiting_letter(session: Session, invoice_id: int, level: int) -> Letter | None:
    """Return the mail, or ``None`` if it is out; raises ``NotDunned``."""
    found = session.get(DunningMail, (invoice_id, level))
    if found is None:
        raise NotDunned(invoice_id, level)
    if found.sent_at is not None:
        return None
    invoice = found.invoice
    return Letter(f"{invoice.number}-{level}", found.recipient, found.subject, found.body, invoice.document)


def mark_sent(session: Session, invoice_id: int, level: int) -> None:
    """Record that the mail is out; the first time counts."""
    session.execute(
        update(DunningMail)
        .where(DunningMail.invoice_id == invoice_id, DunningMail.level == level, DunningMail.sent_at.is_(None))
        .values(sent_at=func.clock_timestamp())
    )


def _overdue(session: Session, today: date) -> list[tuple[Invoice, int]]:
    """Find invoices that are to be dunned today, and the level of the next mail."""
    last = (
        select(
            DunningMail.invoice_id,
            func.max(DunningMail.level).label("level"),
            func.max(DunningMail.dunned_on).label("dunned_on"),
        )
        .group_by(DunningMail.invoice_id)
        .subquery()
    )
    found = session.execute(
        select(Invoice, func.coalesce(last.c.level, 0) + 1)
        .outerjoin(last, last.c.invoice_id == Invoice.order_id)
        .where(
            Invoice.issued_on < today - TERM,
            ~exists().where(Payment.invoice_id == Invoice.order_id),
            or_(last.c.level.is_(None), (last.c.level < len(TITLES)) & (last.c.dunned_on < today - TERM)),
        )
        .options(joinedload(Invoice.order))
        .order_by(Invoice.issued_on, Invoice.order_id)
        .limit(_MOST)
    )
    return [(invoice, level) for invoice, level in found]


def _mail_of(invoice: Invoice, level: int, today: date) -> dict[str, object]:
    assert invoice.issued_on is not None  # noqa: S101 - only issued ones are overdue
    body = render(
        "dunning_mail.txt.j2",
        invoice=invoice,
        level=level,
        last_level=len(TITLES),
        due_on=invoice.issued_on + TERM,
        pay_by=today + TERM,
    )
    return {
        "invoice_id": invoice.order_id,
        "level": level,
        "dunned_on": today,
        "recipient": invoice.order.email,
        "subject": f"{TITLES[level - 1]} zur Rechnung {invoice.number}",
        "body": body,
    }
