"""Open one connection, or say within a few seconds that there is no server."""

import threading
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

from pipeline.db.dsn import Dsn
from pipeline.db.owned import OwnableConnection
from pipeline.errors import ConfigurationError, DatabaseUnavailable, PipelineError

#: libpq takes fewer seconds as two.
_SHORTEST_TIMEOUT_SECONDS = 2
#: A server that vanished without a word is noticed within about ten seconds, as dramatiq-pg does it.
_KEEPALIVES: dict[str, Any] = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}


def connect(url: str, *, within: int = 5, application_name: str = "pipeline") -> OwnableConnection:
    """Open an own connection, which the caller closes.

    Raises:
        DatabaseUnavailable: Nobody answers, or the server refuses us. With several hosts each has ``within`` seconds.
        ConfigurationError: The address holds something libpq does not know.
    """
    dsn = Dsn.parse(url)
    timeout = max(within, _SHORTEST_TIMEOUT_SECONDS)
    try:
        options = _KEEPALIVES | {"connect_timeout": timeout, "fallback_application_name": application_name}
        connection: OwnableConnection = psycopg2.connect(dsn.libpq, connection_factory=OwnableConnection, **options)
    except psycopg2.OperationalError as error:
        raise DatabaseUnavailable(dsn.endpoint, _without_password(str(error), dsn)) from None
    except psycopg2.ProgrammingError as error:
        raise ConfigurationError(f"The database's address: {_without_password(str(error), dsn)}") from None
    return connection


def check_reachable(url: str, *, within: float = 5) -> None:
    """Return once the server answers; raise when the time is over, whatever it is that hangs.

    libpq's own timeout counts per address and not at all while a name is being resolved, so the attempt runs in a
    thread which is left behind if need be.

    Raises:
        DatabaseUnavailable: After ``within`` seconds at the latest.
    """
    dsn = Dsn.parse(url)
    answers: list[PipelineError | None] = []
    attempt = threading.Thread(target=_try_to_connect, args=(url, within, answers), name="reach-database", daemon=True)
    attempt.start()
    attempt.join(within)
    if not answers:
        raise DatabaseUnavailable(dsn.endpoint, f"no answer within {within:g} s")
    if answers[0] is not None:
        raise answers[0]


def _try_to_connect(url: str, within: float, answers: list[PipelineError | None]) -> None:
    try:
        connect(url, within=int(within)).close()
    except PipelineError as error:
        answers.append(error)
    else:
        answers.append(None)


def _without_password(text: str, dsn: Dsn) -> str:
    text = " ".join(text.split())
    return text.replace(dsn.password, "***") if dsn.password else text


def is_direct(connection: Connection) -> bool:
    """Tell whether a connection ends at the server itself, so that its next statement meets the same session.

    A pooler has its own number to cancel by, which is not that of the server's process.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return bool(cursor.fetchone() == (connection.info.backend_pid,))
