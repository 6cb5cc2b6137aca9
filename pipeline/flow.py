"""Who waits for whom, and who works: what operators change about queues, actors, tenants and workers while all runs.

Each is noted in the audit trail with ``who`` and ``reason``, and takes effect at the next claim of every worker; what
runs goes on. It may be a part of the caller's transaction: ``target`` is a psycopg2 connection, a SQLAlchemy Session
(or scoped_session) or a SQLAlchemy Connection. By default it is a transaction of its own.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.commands import gates, queues, workers
from pipeline.runtime import ask, command
from pipeline.store.audit import By

if TYPE_CHECKING:
    from dramatiq import Actor


def pause_queue(
    queue: str, *, who: str, reason: str = "", resume_after: timedelta | None = None, target: Any = None
) -> None:
    """Let no worker claim tasks of a queue any more, from its next claim on; what runs goes on.

    Args:
        queue: Its name.
        who: Whom the audit trail names.
        reason: Why, for whoever wonders.
        resume_after: When it ends by itself; by default somebody resumes the queue.
        target: A transaction of the caller's, see above.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: ``resume_after`` is not above 0.
    """
    command(target, partial(queues.pause_queue, queue=queue, by=By(who, reason), resume_after=resume_after))


def resume_queue(queue: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let workers claim tasks of a queue again; one that is not paused stays as it is. Arguments as above.

    Raises:
        QueueUnknown: There is no such queue.
    """
    command(target, partial(queues.resume_queue, queue=queue, by=By(who, reason)))


def pause_actor(
    actor: Actor[..., Any] | str,
    *,
    who: str,
    reason: str = "",
    resume_after: timedelta | None = None,
    target: Any = None,
) -> None:
    """Start no task of an actor any more; for a while, or until somebody resumes it.

    Raises:
        ActorUnknown: No worker has announced it.
        ValueError: ``resume_after`` is not above 0.
    """
    _pause(_actor_gate(actor), who, reason, resume_after, target)


def resume_actor(actor: Actor[..., Any] | str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Start tasks of an actor again; those that waited begin to follow within two seconds.

    Raises:
        ActorUnknown: No worker has announced it.
    """
    _resume(_actor_gate(actor), who, reason, target)


def pause_tenant(
    tenant: str, *, who: str, reason: str = "", resume_after: timedelta | None = None, target: Any = None
) -> None:
    """Start no task of a tenant any more, that is, none sent with this ``tenant``.

    Raises:
        ValueError: ``resume_after`` is not above 0, or the tenant is empty.
    """
    _pause(_named("tenant", tenant), who, reason, resume_after, target)


def resume_tenant(tenant: str, *, who: str, reason: str = "", target: Any = None) -> None:
    """Start tasks of a tenant again; those that waited begin to follow within two seconds."""
    _resume(_named("tenant", tenant), who, reason, target)


def limit_queue(queue: str, max_running: int | None, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let so many tasks of a queue run at a time, counted over all workers; None for any number.

    Counted are runs that begin from then on.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: The limit is no whole number above 0.
    """
    command(target, partial(gates.limit_queue, queue=queue, max_running=max_running, by=By(who, reason)))


def limit_actor(
    actor: Actor[..., Any] | str, max_running: int | None, *, who: str, reason: str = "", target: Any = None
) -> None:
    """Let so many tasks of an actor run at a time, whatever it is declared with; None for what it is declared with.

    Raises:
        ActorUnknown: No worker has announced it.
        ValueError: The limit is no whole number above 0.
    """
    _limit(_actor_gate(actor), max_running, who, reason, target)


def limit_key(key: str, max_running: int | None, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let so many tasks with this ``concurrency_key`` run at a time; None for what their actors are declared with.

    Raises:
        ValueError: The limit is no whole number above 0, or the key is empty.
    """
    _limit(_named("key", key), max_running, who, reason, target)


def weigh_queue(queue: str, weight: float, *, who: str, reason: str = "", target: Any = None) -> None:
    """Let a queue come first so much more often than others of its priority, which have the weight 1.

    Raises:
        QueueUnknown: There is no such queue.
        ValueError: The weight is no number from 0.001 to 1000.
    """
    command(target, partial(gates.weigh_queue, queue=queue, weight=weight, by=By(who, reason)))


def drain_worker(worker_id: int, *, who: str, reason: str = "") -> None:
    """Let a worker claim nothing more, finish its tasks and end; its master puts no other in its place.

    It learns that with its next beat. Draining it again changes nothing. This is a transaction of its own, for it locks
    the row that the worker beats in.

    Args:
        worker_id: Its number, as ``worker_status`` shows it.
        who: Whom the audit trail names.
        reason: Why, for whoever wonders.

    Raises:
        WorkerUnknown: There is no such worker.
        WorkerEnded: It is not alive any more; ``state`` says how it ended.
    """
    ask(workers.drain_workers, worker_ids=[worker_id], by=By(who, reason))


def _pause(gate: str, who: str, reason: str, resume_after: timedelta | None, target: Any) -> None:
    command(target, partial(gates.pause_gate, gate=gate, by=By(who, reason), resume_after=resume_after))


def _resume(gate: str, who: str, reason: str, target: Any) -> None:
    command(target, partial(gates.resume_gate, gate=gate, by=By(who, reason)))


def _limit(gate: str, max_running: int | None, who: str, reason: str, target: Any) -> None:
    command(target, partial(gates.limit_gate, gate=gate, max_running=max_running, by=By(who, reason)))


def _actor_gate(actor: Actor[..., Any] | str) -> str:
    return f"actor:{actor if isinstance(actor, str) else actor.actor_name}"


def _named(kind: str, name: str) -> str:
    if not name:
        message = f"A {kind} must have a name"
        raise ValueError(message)
    return f"{kind}:{name}"
