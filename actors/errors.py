"""What the business refuses.

Every ``ErpError`` is a final answer: running the same task again gives the same refusal, so the actors list it in
``throws`` and it is not retried.
"""

from collections.abc import Iterable


class ErpError(Exception):
    """The business refused the request."""


class OrderUnknown(ErpError):
    """No order has this id."""

    def __init__(self, order_id: int) -> None:
        super().__init__(f"No order has the id {order_id}.")
        self.order_id = order_id


class StockInsufficient(ErpError):
    """The warehouse holds less than was ordered."""

    def __init__(self, order: str, article: str, stock: int, ordered: int) -> None:
        super().__init__(f"Order {order} asks for {ordered} of article {article}, but only {stock} are in stock.")
        self.order = order
        self.article = article
        self.stock = stock
        self.ordered = ordered


class InvoiceUnknown(ErpError):
    """No invoice has this id: its order was not booked."""

    def __init__(self, invoice_id: int) -> None:
        super().__init__(f"No invoice has the id {invoice_id}; book its order first.")
        self.invoice_id = invoice_id


class InvoiceNotIssued(ErpError):
    """The invoice has no document yet, so there is nothing to mail."""

    def __init__(self, invoice_id: int) -> None:
        super().__init__(f"Invoice {invoice_id} is not issued yet; issue it before mailing it.")
        self.invoice_id = invoice_id


class NotDunned(ErpError):
    """No mail of this level was written for the invoice."""

    def __init__(self, invoice_id: int, level: int) -> None:
        super().__init__(f"Invoice {invoice_id} has no dunning mail of level {level}.")
        self.invoice_id = invoice_id
        self.level = level


class MailRefused(ErpError):
    """The mail can never be delivered as it is."""


class MailNotConfigured(Exception):
    """No mail server is configured; not a refusal, for the mail goes out once somebody sets one."""

    def __init__(self) -> None:
        super().__init__("No mail server is configured. Set PIPELINE_SMTP_HOST and PIPELINE_SMTP_PORT.")


class DatasetUnknown(ErpError):
    """No dataset has this id."""

    def __init__(self, dataset_id: int) -> None:
        super().__init__(f"No dataset has the id {dataset_id}; upload the file again.")
        self.dataset_id = dataset_id


class FileUnreadable(ErpError):
    """The file as a whole is not a list of orders; none of its rows was read."""


class WrongColumns(FileUnreadable):
    """The header does not name the columns of an order."""

    def __init__(self, expected: Iterable[str], found: Iterable[str]) -> None:
        self.expected = tuple(expected)
        self.found = tuple(found)
        super().__init__(f"Wrong columns: expected {', '.join(self.expected)}; found {', '.join(self.found)}.")


class PeriodInvalid(ErpError):
    """The report was asked for a month or a day that does not exist."""
