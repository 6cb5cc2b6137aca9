"""The mail catcher of a development machine, as a process of its own."""

import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from actors.mail import Letter, MailServer, deliver

LETTER = Letter("4711", "kunde@firma.example", "Ihre Rechnung", "Anbei.")


@pytest.fixture
def catcher(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "actors.smtp_dev", "--port", "0", "--dir", str(tmp_path / "mail")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture
def mail_server(catcher: subprocess.Popen[str]) -> MailServer:
    assert catcher.stdout is not None
    announced = catcher.stdout.readline()
    port = int(announced.split()[2].rpartition(":")[2])
    return MailServer("127.0.0.1", port, "rechnung@erp.example")


def test_a_mail_becomes_a_file(mail_server: MailServer, tmp_path: Path) -> None:
    deliver(LETTER, mail_server)

    (file,) = (tmp_path / "mail").iterdir()
    assert file.name == "4711_erp.example.eml"
    assert message_from_bytes(file.read_bytes())["Subject"] == "Ihre Rechnung"


def test_a_mail_that_comes_twice_is_one_file(mail_server: MailServer, tmp_path: Path) -> None:
    deliver(LETTER, mail_server)
    deliver(LETTER, mail_server)

    assert len(list((tmp_path / "mail").iterdir())) == 1


def test_no_message_id_leads_out_of_the_directory(mail_server: MailServer, tmp_path: Path) -> None:
    message_ids = ["<../../etc/passwd@x>", "<...>", "", "<" + "x" * 500 + ">"]

    with smtplib.SMTP(mail_server.host, mail_server.port) as connection:
        for message_id in message_ids:
            connection.sendmail("a@b", ["c@d"], f"Message-ID: {message_id}\r\n\r\nText")

    assert [file.parent for file in tmp_path.rglob("*.eml")] == [tmp_path / "mail"] * len(message_ids)


def test_a_full_disk_is_worth_a_retry(mail_server: MailServer, tmp_path: Path) -> None:
    (tmp_path / "mail").rmdir()

    with pytest.raises(smtplib.SMTPDataError, match="451"):
        deliver(LETTER, mail_server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_even_while_a_client_is_connected(
    catcher: subprocess.Popen[str], mail_server: MailServer, number: signal.Signals
) -> None:
    with smtplib.SMTP(mail_server.host, mail_server.port) as connection:
        connection.noop()
        catcher.send_signal(number)

        assert catcher.wait(timeout=5) == 0
