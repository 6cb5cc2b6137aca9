"""A real mail server for tests: it takes real mail over a real socket, and refuses on request."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

HOST = "127.0.0.1"


class Postmaster:
    """Takes what it is sent; the local part of a recipient may ask for a refusal (``550@…``, ``450@…``)."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer_to_data = "250 OK"
        self.answer_to_quit = "221 Bye"

    async def handle_RCPT(  # noqa: N802 - the name is aiosmtpd's
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        code = address.partition("@")[0]
        if code.isdigit():
            return f"{code} No thanks"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answer_to_data.startswith("250"):
            content = cast(bytes, envelope.content)
            self.mails.append(cast(EmailMessage, message_from_bytes(content, policy=default)))
        return self.answer_to_data

    async def handle_QUIT(self, _server: SMTP, _session: Session, _envelope: Envelope) -> str:  # noqa: N802
        return self.answer_to_quit


@contextmanager
def serving(postmaster: Postmaster) -> Iterator[int]:
    """Run the server for the time of a block; yields its port."""
    port = free_port()
    controller = Controller(postmaster, hostname=HOST, port=port, server_hostname="localhost")
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server((HOST, 0)) as taken:
        return int(taken.getsockname()[1])
