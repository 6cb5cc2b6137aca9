"""The database of a test: the broker bound to it, and nothing in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dramatiq
from psycopg2 import ProgrammingError, errors

from pipeline.broker.broker import PostgresBroker
from pipeline.broker.sender import translated
from pipeline.broker.tally import Tally
from pipeline.errors import ConfigurationError, PipelineError, QueueUnknown
from pipeline.runtime import get_broker
from pipeline.store import testing

if TYPE_CHECKING:
    from typing import Any

#: What a broker learns of its database on first use.
_LEARNT = ("url", "sql", "notifier", "sender")


def broker_in_use() -> PostgresBroker:
    """Return Dramatiq's global broker.

    Raises:
        ConfigurationError: It is not ours, or enqueues nothing because PIPELINE_EAGER is set.
    """
    broker = _our_broker()
    if broker.eager is not None:
        raise ConfigurationError("PIPELINE_EAGER is set, so nothing is enqueued: unset it for these tests")
    return broker


def _our_broker() -> PostgresBroker:
    broker = dramatiq.get_broker()
    if isinstance(broker, PostgresBroker):
        return broker
    get_broker()  # tells what is wrong with the configuration, if that is why
    raise ConfigurationError(f"Dramatiq's global broker is a {type(broker).__name__}, not a PostgresBroker")


def queues_of(broker: PostgresBroker, queue: str | None) -> list[str]:
    """Name the queues that are meant: that one, or all that are declared.

    Raises:
        QueueUnknown: No actor uses it.
    """
    declared = broker.get_declared_queues()
    if queue is not None and queue not in declared:
        raise QueueUnknown(queue)
    return sorted(declared) if queue is None else [queue]


@contextmanager
def bound(url: str, *, schema: str | None = None) -> Iterator[PostgresBroker]:
    """Bind the process's broker, on which its actors were declared, to a migrated database for a block.

    Args:
        url: The database.
        schema: Where our tables are in it; by default where the broker has them now.
    """
    broker = _our_broker()
    made = broker.__dict__
    before = {name: made.pop(name) for name in _LEARNT if name in made}
    schema_before = broker.schema
    broker.close()
    made["url"] = url
    # What a worker on another database could not write any more is not to be counted in this one.
    tally, broker.tally = broker.tally, Tally()
    broker.schema = schema or schema_before
    try:
        yield broker
    finally:
        broker.close()
        for name in _LEARNT:
            made.pop(name, None)
        made.update(before)
        broker.tally = tally
        broker.schema = schema_before


def reset() -> None:
    """Forget all tasks, and all else that the task queue keeps. In the database the broker is bound to: take care.

    Raises:
        PipelineError: A transaction that was left open is in the way.
    """
    broker = broker_in_use()
    try:
        ask(broker, testing.empty)
    except errors.LockNotAvailable as error:
        message = "The tables cannot be emptied: somebody, probably an earlier test, left a transaction open"
        raise PipelineError(message) from error
    broker.__dict__.pop("sender", None)  # the lanes that it has made are gone, too


def ask(broker: PostgresBroker, statement: Callable[..., Any], *arguments: Iterable[str]) -> Any:
    """Run a function of the store on a connection of the broker.

    Raises:
        SchemaOutdated: There are no tables: a test without the fixture, most likely.
    """
    with broker.pool.connection() as connection, connection.cursor() as cursor:
        try:
            return statement(broker.sql, cursor, *arguments)
        except ProgrammingError as error:
            raise translated(error) from error
