"""Orders: from the order to the mail with its invoice."""

from dramatiq import Message
from sqlalchemy import func, update
from sqlalchemy.orm import Session

from actors.errors import ErpError, OrderUnknown, StockInsufficient
from actors.invoices import draw_up_invoice, issue_invoice
from actors.mail import mail_invoice
from actors.models import Order, Product
from pipeline import actor, chain, current_task

BOOKED = "booked"
ALREADY_PROCESSED = "already processed"


def order_chain(order_id: int) -> chain:
    """Compose what happens to an order: book it, issue its invoice, mail the invoice.

    An invoice has the id of its order, so every step is told the id and none needs the answer of the step before
    (``pipe_ignore``). Hence a chain that is sent a second time walks over what is done and completes what is missing.
    """
    return chain(
        [
            process_order.message(order_id),
            issue_invoice.message_with_options(args=(order_id,), pipe_ignore=True),
            mail_invoice.message_with_options(args=(order_id,), pipe_ignore=True),
        ]
    )


def first_step(order_id: int) -> Message[str]:
    """Return the message that starts the order's chain, for sending many chains at once."""
    return order_chain(order_id).messages[0]


@actor(
    queue_name="orders",
    max_retries=5,
    transactional=True,
    throws=(ErpError,),
    entity=lambda order_id: f"order:{order_id}",
)
def process_order(order_id: int) -> str:
    """Book one order.

    Safe to run twice: stock, invoice row and the end of the task commit together, and a booked order is left alone.
    """
    return book_order(current_task().session, order_id)


def book_order(session: Session, order_id: int) -> str:
    """Take the goods from stock and draw up the invoice, once per order.

    Locks the order, so of two runs at the same time the second waits and then finds the order booked.

    Raises:
        OrderUnknown: There is no such order.
        StockInsufficient: The warehouse holds less than was ordered.
    """
    order = session.get(Order, order_id, with_for_update=True)
    if order is None:
        raise OrderUnknown(order_id)
    if order.booked_at is not None:
        return ALREADY_PROCESSED

    order.booked_at = func.clock_timestamp()
    session.add(draw_up_invoice(order))
    session.flush()
    # Last, because all orders of an article queue for its row until we commit.
    _take_from_stock(session, order)
    return BOOKED


def _take_from_stock(session: Session, order: Order) -> None:
    taken = session.scalar(
        update(Product)
        .where(Product.id == order.product_id, Product.stock >= order.quantity)
        .values(stock=Product.stock - order.quantity)
        .returning(Product.id)
        .execution_options(synchronize_session=False)
    )
    if taken is None:
        product = order.product
        session.refresh(product)
        raise StockInsufficient(order.number, product.article, product.stock, order.quantity)
