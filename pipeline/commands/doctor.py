"""Look whether everything is as it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import errors

from pipeline.commands.checks import CHECKS, Answer, Patient, Verdict
from pipeline.db.connection import connect
from pipeline.store import metrics

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.settings import Settings

#: How long one statement may take. What takes longer says so, and nothing waits for it.
_STATEMENT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    #: What it looks for.
    promise: str
    verdict: Verdict
    found: str
    #: What to do about it; nothing if all is well.
    remedy: str


def examine(
    url: str,
    sql: Mapping[str, str],
    settings: Settings,
    checks: Sequence[Callable[[Patient], Answer]] = CHECKS,
) -> Iterator[Finding]:
    """Make all checks, one after the other. Nothing is written, and nobody is held up.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer, or not any more.
    """
    own = connect(url, within=settings.connect_timeout_seconds, application_name="pipeline doctor")
    with closing(own) as connection:
        for check in checks:
            answer = _answer(check, connection, Patient(url, sql, settings, connection.cursor()))
            promise = (check.__doc__ or "").partition("\n")[0]
            yield Finding(check.__name__, promise, answer.verdict, answer.found, answer.remedy)


def is_well(findings: Sequence[Finding], *, strict: bool) -> bool:
    """Tell whether nothing failed; with ``strict`` also whether there was nothing to warn of."""
    bad = {Verdict.FAIL, Verdict.WARN} if strict else {Verdict.FAIL}
    return all(finding.verdict not in bad for finding in findings)


def _answer(check: Callable[[Patient], Answer], connection: Connection, patient: Patient) -> Answer:
    try:
        with connection, patient.cursor:
            metrics.limit_time(patient.sql, patient.cursor, _STATEMENT_SECONDS)
            answer = check(patient)
            metrics.limit_time(patient.sql, patient.cursor, 0)  # psycopg2 takes a COMMIT that ran out of time for one
            return answer
    except errors.QueryCanceled:
        found = f"no answer within {_STATEMENT_SECONDS:g} s"
        return Answer(Verdict.WARN, found, "Ask again when the database is less busy, or nobody locks our tables.")
    except errors.InsufficientPrivilege as error:
        remedy = "Ask as the owner, or as a member of pipeline_operator and pg_read_all_stats."
        return Answer(Verdict.WARN, f"may not look: {_first_line(error)}", remedy)
    except psycopg2.ProgrammingError as error:
        return Answer(Verdict.FAIL, _first_line(error), "See schema.")


def _first_line(error: psycopg2.Error) -> str:
    return str(error).strip().partition("\n")[0]
