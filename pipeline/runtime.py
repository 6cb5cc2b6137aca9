"""The composition root: the one broker of a process, made of the settings, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ParamSpec, TypeVar, overload

import dramatiq

from pipeline.broker.broker import PostgresBroker
from pipeline.broker.composition import install

P = ParamSpec("P")
R = TypeVar("R")


@cache
def get_broker() -> PostgresBroker:
    """Return the broker of this process, making it at first and giving it to Dramatiq as the global one."""
    install()
    broker = PostgresBroker()
    dramatiq.set_broker(broker)
    return broker


@overload
def actor(fn: Callable[P, R], **options: Any) -> dramatiq.Actor[P, R]: ...


@overload
def actor(fn: None = None, **options: Any) -> Callable[[Callable[P, R]], dramatiq.Actor[P, R]]: ...


def actor(fn: Callable[P, R] | None = None, **options: Any) -> Any:
    """Declare an actor on this process's broker; otherwise ``dramatiq.actor``.

    Options of ours: ``transactional`` (its database writes, its sends and its outcome commit together), ``jitter`` and
    ``retry_for`` (see :class:`pipeline.middleware.retries.Retries`).
    """
    options.setdefault("broker", dramatiq.get_broker())
    return dramatiq.actor(fn, **options)


def send_many(messages: Iterable[dramatiq.Message[Any]], *, delay: float | None = None) -> list[dramatiq.Message[Any]]:
    """Enqueue many messages in one statement, all or none; in the transaction they belong to, if there is one."""
    return _ours().send_many(messages, delay=delay)


@contextmanager
def enlist(target: Any, *, at_exit: bool = False) -> Iterator[None]:
    """Let the sends inside the block belong to the caller's transaction.

    Args:
        target: A psycopg2 connection, a SQLAlchemy Session (or scoped_session) or a SQLAlchemy Connection.
        at_exit: For a psycopg2 connection only: write everything as one statement when the block ends, instead of each
            send at once. Commit after the block, and set no savepoints inside it.
    """
    with _ours().enlist(target, at_exit=at_exit):
        yield


def _ours() -> PostgresBroker:
    broker = dramatiq.get_broker()
    if not isinstance(broker, PostgresBroker):
        message = f"The global broker is a {type(broker).__name__}, not a PostgresBroker"
        raise TypeError(message)
    return broker
