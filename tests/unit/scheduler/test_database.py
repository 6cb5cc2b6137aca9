"""Which errors mean that the database is away, and which that a statement was refused."""

from __future__ import annotations

import psycopg2
import pytest
from psycopg2 import errors

from pipeline.errors import ActorUnknown, DatabaseUnavailable
from scheduler.database import Outage, is_away
from scheduler.failures import Failures
from tests.fixtures.logs import captured_logs


class AdminShutdown(errors.AdminShutdown):
    pgcode = "57P01"


class DeadlockDetected(errors.DeadlockDetected):
    pgcode = "40P01"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (psycopg2.OperationalError("server closed the connection"), True),
        (psycopg2.InterfaceError("connection already closed"), True),
        (DatabaseUnavailable("somewhere", "no answer"), True),
        (AdminShutdown(), True),
        (DeadlockDetected(), False),
        (psycopg2.ProgrammingError(), False),
        (ActorUnknown("report"), False),
        (ValueError(), False),
    ],
)
def test_an_error_means_that_it_is_away_or_not(error: Exception, expected: bool) -> None:
    assert is_away(error) is expected


def test_an_outage_is_told_when_it_begins_and_when_it_is_over() -> None:
    outage = Outage()
    with captured_logs("scheduler") as logs:
        assert not outage.end()
        for _ in range(3):
            outage.begin(ValueError("away"))
        assert outage.is_on
        assert (outage.end(), outage.end(), outage.is_on) == (True, False, False)

    assert [line["event"] for line in logs] == ["scheduler.database_away", "scheduler.database_back"]


def test_a_mistake_of_ours_is_shown_with_its_traceback_and_a_known_error_in_a_line() -> None:
    failures = Failures()
    with captured_logs("scheduler") as logs:
        failures.add(1, "b", ActorUnknown("unheard"))
        failures.add(2, "a", ZeroDivisionError())
        failures.add(1, "b", ActorUnknown("unheard"))

    assert [line["schedule"] for line in logs] == ["b", "a"]
    assert [line["error"][:32] for line in logs] == ["this program knows no actor unhe", "ZeroDivisionError"]
    assert [bool(line["exc_info"]) for line in logs] == [False, True]
    assert failures.schedules == ["a", "b"]
    failures.remove(2)
    failures.remove(3)
    assert failures.schedules == ["b"]
