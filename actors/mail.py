"""Mail: a real SMTP dialogue, at least once.

A mail server knows nothing of our transactions. When a worker dies after the server took a mail and before that is
recorded, the mail is sent again. Both copies carry the same Message-ID, by which the receiver can tell.
"""

import smtplib
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, parseaddr

from sqlalchemy import func, update
from sqlalchemy.orm import Session

from actors.errors import ErpError, InvoiceNotIssued, MailNotConfigured, MailRefused
from actors.headers import is_address, is_one_line
from actors.models import Mail
from pipeline import actor, current_task, get_broker

SENT = "sent"
ALREADY_SENT = "already sent"

_MINUTE_MS = 60_000
_SMTP_TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail to one recipient; ``key`` is what its Message-ID is made of."""

    key: str
    recipient: str
    subject: str
    body: str
    document: str | None = None


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over, and whom it comes from."""

    host: str
    port: int
    sender: str


@actor(
    queue_name="mail",
    max_retries=5,
    min_backoff=_MINUTE_MS,
    max_backoff=16 * _MINUTE_MS,
    jitter=False,
    throws=(ErpError,),
    tags=["mail"],
)
def send_email(recipient: str, subject: str, body: str) -> str:
    """Send a plain mail; retried after 1, 2, 4, 8 and 16 minutes.

    At least once: a run after a crash may send the mail again, with the same Message-ID, which is made of the task's
    id.
    """
    deliver(Letter(current_task().task_id, recipient, subject, body), configured_server())
    return SENT


@actor(
    queue_name="mail",
    max_retries=5,
    min_backoff=_MINUTE_MS,
    max_backoff=16 * _MINUTE_MS,
    jitter=False,
    throws=(ErpError,),
    tags=["mail"],
    entity=lambda invoice_id: f"invoice:{invoice_id}",
)
def mail_invoice(invoice_id: int) -> str:
    """Mail an issued invoice; retried after 1, 2, 4, 8 and 16 minutes.

    Safe to run twice: a mail that is marked as sent is not sent again, and counts once. At least once all the same: a
    crash between the mail server's answer and the mark sends it again, with the same Message-ID, which is made of the
    invoice's number. No transaction is open while the mail server is talked to.
    """
    task = current_task()
    task.checkpoint()
    with task.step() as step:
        letter = waiting_letter(step.session, invoice_id)
    if letter is None:
        return ALREADY_SENT

    deliver(letter, configured_server())
    with task.step() as step:
        mark_sent(step.session, invoice_id)
    return SENT


def waiting_letter(session: Session, invoice_id: int) -> Letter | None:
    """Return the invoice's mail, or ``None`` if it is out; raises ``InvoiceNotIssued``."""
    mail = session.get(Mail, invoice_id)
    if mail is None:
        raise InvoiceNotIssued(invoice_id)
    if mail.sent_at is not None:
        return None
    invoice = mail.invoice
    return Letter(invoice.number, mail.recipient, mail.subject, mail.body, invoice.document)


def mark_sent(session: Session, invoice_id: int) -> None:
    """Record that the mail is out; the first time counts."""
    session.execute(
        update(Mail).where(Mail.invoice_id == invoice_id, Mail.sent_at.is_(None)).values(sent_at=func.clock_timestamp())
    )


def configured_server() -> MailServer:
    """Return the mail server of the settings; raises ``MailNotConfigured``."""
    settings = get_broker().settings
    if settings.smtp_host is None:
        raise MailNotConfigured
    return MailServer(settings.smtp_host, settings.smtp_port, settings.mail_from)


def deliver(letter: Letter, server: MailServer) -> None:
    """Hand the letter to the mail server.

    What else is raised, such as that the server is away or busy (4xx), is worth a retry.

    Raises:
        MailRefused: No retry can help: a malformed letter, or a permanent (5xx) refusal of its recipient or content.
    """
    message = compose(letter, server.sender)
    with closing(smtplib.SMTP(server.host, server.port, timeout=_SMTP_TIMEOUT_SECONDS)) as connection:
        _hand_over(connection, message)
        # The mail is accepted: a broken goodbye must not send it again.
        with suppress(smtplib.SMTPException, OSError):
            connection.quit()


def compose(letter: Letter, sender: str) -> EmailMessage:
    """Build the message; raises ``MailRefused`` for what could inject a header or a recipient."""
    if not is_address(letter.recipient):
        raise MailRefused(f"{letter.recipient!r} is not a mail address.")
    if not is_one_line(letter.subject):
        raise MailRefused("The subject contains a line break or another control character.")
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = letter.recipient
    message["Subject"] = letter.subject
    message["Date"] = localtime()
    message["Message-ID"] = f"<{letter.key}@{parseaddr(sender)[1].rpartition('@')[2]}>"
    try:
        message.set_content(letter.body)
    except UnicodeEncodeError as error:
        raise MailRefused("The body contains half a character, which cannot be written.") from error
    if letter.document is not None:
        message.add_attachment(letter.document, subtype="html", filename=f"{letter.key}.html")
    return message


def _hand_over(connection: smtplib.SMTP, message: EmailMessage) -> None:
    try:
        connection.send_message(message)
    except smtplib.SMTPRecipientsRefused as refusal:
        code, reason = next(iter(refusal.recipients.values()))
        _refuse_if_permanent(code, reason, refusal)
        raise
    except smtplib.SMTPDataError as refusal:
        _refuse_if_permanent(refusal.smtp_code, refusal.smtp_error, refusal)
        raise


def _refuse_if_permanent(code: int, reason: bytes | str, cause: Exception) -> None:
    if code >= 500:
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise MailRefused(f"The mail server refused the mail for good: {code} {text}") from cause
