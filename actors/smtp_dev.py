"""A mail server for development: every mail it takes becomes a file.

Run by ``./dev run`` as ``python -m actors.smtp_dev --port 8025 --dir var/mail``. It listens on this machine only, knows
no passwords and delivers nothing.
"""

import asyncio
import re
import signal
from email import message_from_bytes
from functools import partial
from pathlib import Path
from uuid import uuid4

import click
from aiosmtpd.smtp import SMTP, Envelope, Session

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8025, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option(
    "--dir",
    "directory",
    default=Path("var/mail"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the .eml files go.",
)
def main(host: str, port: int, directory: Path) -> None:
    """Take mail and write each one to a .eml file, until SIGTERM or Ctrl-C."""
    directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(host, port, directory))


async def serve(host: str, port: int, directory: Path) -> None:
    """Serve until a signal asks to stop; a mail that was acknowledged is on disk."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(partial(SMTP, Mailbox(directory), hostname="localhost"), host, port)
    taken = server.sockets[0].getsockname()[1]
    click.echo(f"Mail for {host}:{taken} is written to {directory}")
    await stopped.wait()
    # Not wait_closed(): an idle client must not hold up the end.
    server.close()


class Mailbox:
    """Writes mails into a directory.

    A file is named after the Message-ID, so a mail that is sent twice is one file, as it should be one mail
    in the eyes of its receiver.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Store one mail; the sender may try again if the disk refuses it."""
        content = envelope.content
        if not isinstance(content, bytes):
            return "500 Only bytes are understood"
        try:
            self.store(content)
        except OSError as error:
            return f"451 The mail cannot be stored: {error.strerror}"
        return "250 OK"

    def store(self, content: bytes) -> Path:
        """Write the mail in one go: a reader of the directory never sees half of it."""
        target = self._directory / f"{_file_name(content)}.eml"
        draft = target.with_suffix(f".{uuid4().hex}.tmp")
        draft.write_bytes(content)
        return draft.replace(target)


def _file_name(content: bytes) -> str:
    message_id = str(message_from_bytes(content)["Message-ID"] or uuid4())
    return _UNSAFE.sub("_", message_id.strip("<> ")).strip("._")[:200] or uuid4().hex


if __name__ == "__main__":
    main()
