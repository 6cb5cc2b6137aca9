import psycopg2
import pytest

from pipeline.cli.failure import Failure
from pipeline.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    EmbeddedServerError,
    LeaseLost,
    ScheduleConflict,
    ScheduleInvalid,
    ScheduleUnknown,
    SchemaOutdated,
    TaskNotFound,
    WorkerUnknown,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("x"), 2),
        (SchemaOutdated("pipeline", ["x"]), 3),
        (DatabaseUnavailable("x"), 4),
        (EmbeddedServerError("x"), 4),
        (psycopg2.OperationalError("x"), 4),
        (TaskNotFound("x"), 5),
        (WorkerUnknown(7), 5),
        (ScheduleInvalid("expression", "minute: 61 is above 59"), 2),
        (ScheduleUnknown("x"), 5),
        (ScheduleConflict("x", "exists already"), 1),
        (LeaseLost(), 1),
        (psycopg2.ProgrammingError("x"), 1),
    ],
)
def test_each_kind_of_error_has_its_exit_status(error, status):
    assert Failure.can_tell(error)
    assert Failure.of(error).exit_code == status
    assert Failure.of(error).message == str(error)


def test_notes_are_told_too():
    error = psycopg2.ProgrammingError("syntax error\n")
    error.add_note("This came from sql/migrations/0007_x.sql")

    assert Failure.of(error).message == "syntax error\nThis came from sql/migrations/0007_x.sql"


def test_our_own_mistakes_keep_their_traceback():
    assert not Failure.can_tell(KeyError("x"))
