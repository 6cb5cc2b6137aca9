"""What went wrong, as one line and an exit status."""

from __future__ import annotations

from typing import Self

import click
import psycopg2

from pipeline.errors import (
    ActorUnknown,
    ConfigurationError,
    DatabaseUnavailable,
    EmbeddedServerError,
    GateUnknown,
    PipelineError,
    QueueUnknown,
    ScheduleInvalid,
    ScheduleUnknown,
    SchemaOutdated,
    TaskNotFound,
    TokenUnknown,
    WorkerUnknown,
)

#: The first class that an error is an instance of decides.
_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (ConfigurationError, 2),
    (ScheduleInvalid, 2),
    (SchemaOutdated, 3),
    (DatabaseUnavailable, 4),
    (EmbeddedServerError, 4),
    (psycopg2.OperationalError, 4),
    (TaskNotFound, 5),
    (QueueUnknown, 5),
    (ActorUnknown, 5),
    (GateUnknown, 5),
    (WorkerUnknown, 5),
    (ScheduleUnknown, 5),
    (TokenUnknown, 5),
    (PipelineError, 1),
    (psycopg2.Error, 1),
)


class Failure(click.ClickException):
    """An error that the user is told in a line."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click declares it for the class

    @staticmethod
    def can_tell(error: Exception) -> bool:
        """Tell whether a line says it all; anything else is a mistake of ours, with its traceback."""
        return isinstance(error, PipelineError | psycopg2.Error)

    @classmethod
    def of(cls, error: Exception) -> Self:
        """Make the line."""
        status = next(status for kind, status in _STATUSES if isinstance(error, kind))
        lines = [str(error).strip() or type(error).__name__, *getattr(error, "__notes__", ())]
        return cls("\n".join(lines), status)
