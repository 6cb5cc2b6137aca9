"""Invoices: amounts, number and the document the customer receives."""

from datetime import date
from decimal import ROUND_HALF_UP, Decimal

from sqlalchemy.orm import Session

from actors.days import german_today
from actors.errors import ErpError, InvoiceUnknown
from actors.letters import render
from actors.models import Invoice, Mail, Order
from pipeline import actor, current_task

ISSUED = "issued"
ALREADY_ISSUED = "already issued"
VAT_PERCENT = 19


@actor(
    queue_name="invoices",
    max_retries=5,
    transactional=True,
    throws=(ErpError,),
    entity=lambda invoice_id: f"invoice:{invoice_id}",
)
def issue_invoice(invoice_id: int) -> str:
    """Write an invoice's document and lay its mail ready.

    Safe to run twice: document, mail and the end of the task commit together, and an invoice that has its document
    keeps it, with its date.
    """
    return write_invoice(current_task().session, invoice_id)


def draw_up_invoice(order: Order) -> Invoice:
    """Return the invoice of an order that is being booked; its document comes later."""
    net = order.quantity * order.unit_price
    vat = (net * VAT_PERCENT / 100).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return Invoice(order_id=order.id, number=f"R{order.id:08d}", net=net, vat=vat, total=net + vat)


def write_invoice(session: Session, invoice_id: int) -> str:
    """Issue an invoice once; a later call changes nothing.

    Locks the invoice's row.

    Raises:
        InvoiceUnknown: There is no such invoice.
    """
    invoice = session.get(Invoice, invoice_id, with_for_update=True)
    if invoice is None:
        raise InvoiceUnknown(invoice_id)
    if invoice.document is not None:
        return ALREADY_ISSUED

    today = german_today(session)
    invoice.issued_on, invoice.document = today, render_invoice(invoice, today)
    session.add(_mail_of(invoice))
    session.flush()
    return ISSUED


def render_invoice(invoice: Invoice, issued_on: date) -> str:
    """Return the invoice as an HTML page; whatever the customer wrote is escaped."""
    order = invoice.order
    return render(
        "invoice.html.j2",
        invoice=invoice,
        order=order,
        product=order.product,
        issued_on=issued_on,
        vat_percent=VAT_PERCENT,
    )


def _mail_of(invoice: Invoice) -> Mail:
    body = render("invoice_mail.txt.j2", invoice=invoice)
    return Mail(
        invoice_id=invoice.order_id,
        recipient=invoice.order.email,
        subject=f"Ihre Rechnung {invoice.number}",
        body=body,
    )
