"""Results: written with the outcome of the run that made them, read by polling once for a whole process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import dramatiq_pg
import psycopg2
from dramatiq.message import get_encoder
from dramatiq.results import ResultFailure, ResultMissing, ResultTimeout
from dramatiq.results.backend import DEFAULT_TIMEOUT

from pipeline.broker.messages import encode_json
from pipeline.broker.outcome import text_of
from pipeline.context import StoredResult, find_current_task
from pipeline.db.pool import DISCONNECTED, Deadline, Pool
from pipeline.db.statements import load
from pipeline.errors import DatabaseUnavailable
from pipeline.logger import get_logger
from pipeline.settings import Settings, get_settings
from pipeline.store import results

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dramatiq import Message
    from dramatiq.encoder import Encoder

#: Characters of a failure's text that are kept as its result.
_FAILURE_CHARACTERS = 16_384
_FIRST_POLL_SECONDS = 0.005
_LONGEST_POLL_SECONDS = 0.1

log = get_logger(__name__)


class PostgresResultBackend(dramatiq_pg.PostgresBackend):
    """Dramatiq's result backend over our store.

    Inside a run a result is captured and written in the transaction of the run's outcome. ``get_result(block=True)``
    works in threaded processes and for results of any size up to the limit: the waiters of a process share one poller.

    Args:
        url: The database; by default that of ``broker`` or of the settings.
        broker: Shares its connections.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        broker: Any = None,
        schema: str | None = None,
        settings: Settings | None = None,
        encoder: Encoder | None = None,
        **kw: Any,
    ) -> None:
        self._settings = settings or (broker.settings if broker is not None else get_settings())
        self._schema = schema
        pool = Pool(lambda: url or self._settings.database_url or "") if broker is None else _broker_pool(broker)
        inbox = broker.inbox if broker is not None else (self._settings.inbox_schema, self._settings.inbox_prefix)
        self._broker = broker
        #: None: Dramatiq's global one, which may be set after this was made.
        self._own_encoder = encoder
        super().__init__(pool=pool, schema=inbox[0], prefix=inbox[1], **kw)
        self._poller = _Poller(self)

    @property
    def sql(self) -> Mapping[str, str]:
        """The named statements for our schema."""
        return load(self._schema or (self._settings.schema_name if self._broker is None else self._broker.schema))

    def get_result(self, message: Message[Any], *, block: bool = False, timeout: int | None = None) -> Any:
        """Get a result.

        Args:
            message: Whose result.
            block: Whether to wait for it.
            timeout: How long, in milliseconds; ten seconds by default.

        Raises:
            ResultMissing: There is none (yet), or its time is over.
            ResultTimeout: There was none in time.
            ResultFailure: The task failed, or was cancelled.
        """
        key = self.build_message_key(message)
        ending = self.read([key]).get(key)
        if ending is None or not ending.is_answer:
            if not block:
                raise ResultMissing(message)
            deadline = Deadline((DEFAULT_TIMEOUT if timeout is None else timeout) / 1000)
            ending = self._poller.wait(key, deadline, lambda each: each.is_answer, message)
        if not ending.has_result:
            kind, text = ending.error_type or "", ending.error_message or ""
            raise ResultFailure(f"The task is {ending.state}: {kind}: {text}", kind, text)
        encoder = self._own_encoder or get_encoder()
        return self.unwrap_result(None if ending.result is None else encoder.decode(ending.result.encode("utf-8")))

    def wait_for_end(self, task_id: str, timeout_ms: float) -> None:
        """Wait until a task has ended, in whatever way.

        Raises:
            ResultTimeout: It has not in time.
        """
        told = f"The task {task_id} has not ended in time"
        self._poller.wait(task_id, Deadline(timeout_ms / 1000), lambda each: each.state is not None, told)

    def store_result(self, message: Message[Any], result: Any, ttl: int) -> None:
        """Keep a result."""
        task = getattr(message, "task", None)
        if result is None and task is not None and task.capture is not None:
            task.capture.result = StoredResult(None, int(ttl))  # as _store does, for most results
        else:
            super().store_result(message, result, ttl)

    def store_exception(self, message: Message[Any], exception: BaseException, ttl: int) -> None:
        """Keep a failure, whatever its text holds; of a very long one the beginning."""
        # Dramatiq asks an exception for its name and its text.
        named = type(type(exception).__name__, (Exception,), {})
        super().store_exception(message, named(text_of(exception)[:_FAILURE_CHARACTERS]), ttl)

    def read(self, keys: list[str]) -> dict[str, results.Ending]:
        """Read the results that are there, and how tasks ended that have none."""
        if self._broker is not None and self._broker.eager is not None:
            found: dict[str, str | None] = self._broker.eager.results_of(keys)
            return {key: results.Ending(None, True, text) for key, text in found.items()}
        try:
            return self._read(keys)
        except DISCONNECTED:  # the server was restarted since the connection was last used
            return self._read(keys)

    def _read(self, keys: list[str]) -> dict[str, results.Ending]:
        with self.pool.connection() as connection, connection.cursor() as cursor:
            return results.results(self.sql, cursor, keys)

    def _store(self, key: str, result: Any, ttl: int) -> None:
        """Keep a result: with the outcome of the run that stores it, or by itself."""
        task = find_current_task_of(key)
        try:
            text = (
                None
                if result is None
                else encode_json(
                    result,
                    what=f"The result of {key}",
                    limit_bytes=self._settings.message_limit_bytes,
                    encoder=self._own_encoder,
                )
            )
        except Exception as error:
            if task is not None and task.capture is not None:
                task.capture.error = error
            raise
        if task is not None and task.capture is not None:
            task.capture.result = StoredResult(text, int(ttl))
            return
        with self.pool.connection() as connection, connection.cursor() as cursor:
            results.store(self.sql, cursor, key, text, int(ttl))


class _Poller:
    """One thread per process that asks for all awaited results together; it ends when nobody waits."""

    def __init__(self, backend: PostgresResultBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._arrived = threading.Event()
        self._thread: threading.Thread | None = None

    def wait(self, key: str, deadline: Deadline, wanted: Callable[[results.Ending], bool], what: Any) -> results.Ending:
        waiter = _Waiter(wanted)
        with self._lock:
            self._waiting.setdefault(key, []).append(waiter)
            self._arrived.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="pipeline-results", daemon=True)
                self._thread.start()
        try:
            if not waiter.ready.wait(deadline.left_seconds):
                raise ResultTimeout(what)
        finally:
            with self._lock:
                waiters = self._waiting.get(key, [])
                if waiter in waiters:
                    waiters.remove(waiter)
                if not waiters:
                    self._waiting.pop(key, None)
                if not self._waiting:
                    self._arrived.set()
        assert waiter.ending is not None  # noqa: S101 - or it would not be ready
        return waiter.ending

    def _run(self) -> None:
        seconds = _FIRST_POLL_SECONDS
        while keys := self._keys():
            try:
                found = self._backend.read(keys)
            except (psycopg2.Error, DatabaseUnavailable) as error:
                log.warning("results.unreachable", error=str(error).strip())
                found = {}
            has_answered = self._hand_out(found)
            seconds = _FIRST_POLL_SECONDS if has_answered else min(seconds * 2, _LONGEST_POLL_SECONDS)
            self._arrived.clear()
            if self._arrived.wait(seconds):
                seconds = _FIRST_POLL_SECONDS

    def _keys(self) -> list[str]:
        """List what is awaited; forget the thread if that is nothing, while nobody can come in between."""
        with self._lock:
            if not self._waiting:
                self._thread = None
            return list(self._waiting)

    def _hand_out(self, found: dict[str, results.Ending]) -> bool:
        """Tell those who wait for it; False if it was not what anybody waits for."""
        has_answered = False
        with self._lock:
            for key, ending in found.items():
                for waiter in self._waiting.get(key, []):
                    if waiter.wanted(ending):
                        waiter.ending = ending
                        waiter.ready.set()
                        has_answered = True
        return has_answered


class _Waiter:
    """One thread that waits for one result, or for the end of one task."""

    def __init__(self, wanted: Callable[[results.Ending], bool]) -> None:
        self.wanted = wanted
        self.ready = threading.Event()
        self.ending: results.Ending | None = None


def find_current_task_of(key: str) -> Any:
    """Return the current task if it is the one with this id; a capture outlives the end of the run by a moment."""
    task = find_current_task()
    return task if task is not None and task.task_id == key else None


def _broker_pool(broker: Any) -> Any:
    return broker.pool
