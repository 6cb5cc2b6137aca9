"""Dramatiq's rate limiters and barriers over PostgreSQL alone."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from dramatiq.rate_limits import RateLimiterBackend

from pipeline.db.embedded import database_url
from pipeline.db.pool import DISCONNECTED, Deadline, Pool
from pipeline.db.statements import load
from pipeline.errors import DatabaseUnavailable
from pipeline.logger import get_logger
from pipeline.settings import Settings, get_settings
from pipeline.store import rate_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg2.extensions import cursor as Cursor  # noqa: N812

#: Pauses between polls: a part of what was waited already, so a wait is never longer by more than that part.
_PAUSE_PART = 0.05
_SHORTEST_PAUSE_SECONDS = 0.005
_LONGEST_PAUSE_SECONDS = 0.25

T = TypeVar("T")

#: How long the server may take to answer.
_PATIENCE_SECONDS = 5.0

log = get_logger(__name__)


class PostgresRateLimiterBackend(RateLimiterBackend):
    """What ``ConcurrentRateLimiter``, ``BucketRateLimiter``, ``WindowRateLimiter``, ``Barrier`` and Dramatiq's own
    ``GroupCallbacks`` need, with the meaning of Dramatiq's Redis backend.

    Each call is one statement in a transaction of its own, on the database's clock, through any pooler. A call whose
    reply is lost raises and is not repeated: nobody could tell whether it counted. A key that leaked so is free again
    when its time is over.

    Constructing one opens no connection.

    Args:
        url: The database; by default that of ``broker`` or of the settings.
        broker: Shares its connections.
        schema: Where our tables live.
        settings: Instead of those read from the environment.
    """  # noqa: D205 - the list of what it serves is one sentence

    def __init__(
        self,
        *,
        url: str | None = None,
        broker: Any = None,
        schema: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if url is not None and broker is not None:
            message = "Give either url or broker: the broker has an address"
            raise ValueError(message)
        settings = settings or (get_settings() if broker is None else broker.settings)
        self._schema: Callable[[], str] = lambda: schema or (settings.schema_name if broker is None else broker.schema)
        self._pool: Pool = Pool(lambda: url or database_url(settings)) if broker is None else broker.pool

    def add(self, key: str, value: int, ttl: int) -> bool:
        """Make a key that lives for ``ttl`` milliseconds; False if it is there already."""
        return self._run(lambda sql, cursor: rate_limits.add(sql, cursor, key, value, ttl))

    def incr(self, key: str, amount: int, maximum: int, ttl: int) -> bool:
        """Add to a key; False if it would exceed ``maximum``. An absent key counts as 0."""
        return self._run(lambda sql, cursor: rate_limits.count(sql, cursor, key, amount, ttl, most=maximum))

    def decr(self, key: str, amount: int, minimum: int, ttl: int) -> bool:
        """Take from a key; False if it would fall below ``minimum``."""
        return self._run(lambda sql, cursor: rate_limits.count(sql, cursor, key, -amount, ttl, least=minimum))

    def incr_and_sum(
        self, key: str, keys: Iterable[str] | Callable[[], Iterable[str]], amount: int, maximum: int, ttl: int
    ) -> bool:
        """Add to a key; False if the sum of all ``keys`` would exceed ``maximum``."""
        names = list(keys() if callable(keys) else keys)
        return self._run(lambda sql, cursor: rate_limits.count_sum(sql, cursor, key, names, amount, ttl, most=maximum))

    def wait(self, key: str, timeout: int | None) -> bool:
        """Wait until somebody notifies the key; False if nobody did within ``timeout`` milliseconds.

        A notification lasts for its own time, so one who comes late is not left waiting. It is polled for, which works
        through a pooler too; a database that is away for a while does not end the wait.
        """
        deadline = Deadline(float("inf") if timeout is None else timeout / 1000)
        while not self._was_told(key):
            if deadline.is_over:
                return False
            threading.Event().wait(_pause_seconds(deadline))
        return True

    def wait_notify(self, key: str, ttl: int) -> None:
        """Tell those who wait for the key, now or within ``ttl`` milliseconds."""
        self._run(lambda sql, cursor: rate_limits.tell(sql, cursor, key, ttl))

    def _was_told(self, key: str) -> bool:
        try:
            return self._run(lambda sql, cursor: rate_limits.was_told(sql, cursor, key))
        except DatabaseUnavailable as error:
            log.warning("wait.unreachable", error=str(error))
            return False

    def _run(self, statement: Callable[[Mapping[str, str], Cursor], T]) -> T:
        """Run a statement in a transaction of its own.

        Raises:
            DatabaseUnavailable: There was no answer.
        """
        try:
            with self._pool.connection(_PATIENCE_SECONDS) as connection, connection.cursor() as cursor:
                return statement(load(self._schema()), cursor)
        except DISCONNECTED as error:
            if error.pgcode is not None and error.pgcode[:2] != "57":
                raise  # the server did answer
            raise DatabaseUnavailable(self._pool.endpoint, str(error).strip()) from error


def _pause_seconds(deadline: Deadline) -> float:
    """Poll often at first and ever less often, and once more at the very end."""
    part = deadline.elapsed_ms / 1000 * _PAUSE_PART
    pause = min(max(part, _SHORTEST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
    return min(random.uniform(pause / 2, pause), deadline.left_seconds)  # noqa: S311
