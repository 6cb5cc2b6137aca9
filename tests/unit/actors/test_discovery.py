"""The package finds its actors by itself, and only those."""

import subprocess
import sys
from inspect import getdoc

import dramatiq
import pytest

import actors

ACTORS = {
    "process_order": "orders",
    "issue_invoice": "invoices",
    "mail_invoice": "mail",
    "send_email": "mail",
    "import_orders": "imports",
    "monthly_report": "reports",
    "daily_report": "reports",
    "month_end_closing": "reports",
    "send_dunning_mails": "invoices",
    "mail_dunning": "mail",
}


@pytest.mark.parametrize(("name", "queue"), ACTORS.items())
def test_importing_the_package_declares_every_actor(name: str, queue: str) -> None:
    assert actors.__name__
    assert dramatiq.get_broker().get_actor(name).queue_name == queue


@pytest.mark.parametrize("name", ACTORS)
def test_every_actor_says_what_a_second_run_does(name: str) -> None:
    text = getdoc(dramatiq.get_broker().get_actor(name).fn) or ""

    assert "Safe to run twice" in text or "At least once" in text


def test_a_worker_loads_no_program_and_nothing_that_only_programs_need() -> None:
    programs = {"actors.demo", "actors.smtp_dev", "faker", "aiosmtpd"}
    code = f"import actors, sys; print(*({programs!r} & sys.modules.keys()))"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == ""
