"""The broker: Dramatiq's interface over PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dramatiq_pg
from dramatiq.common import q_name
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware

from pipeline.broker import labels, limits, masks
from pipeline.broker.actor import take_new
from pipeline.broker.bulk import Bulk, mode_of
from pipeline.broker.consumer import QueueFacade
from pipeline.broker.eager import Eager, make_eager
from pipeline.broker.engine import Engine
from pipeline.broker.enlist import Batch, Joined, JoinedTask, join, joined, joining
from pipeline.broker.hooks import Hooks
from pipeline.broker.interrupter import Interrupter
from pipeline.broker.keys import KEYS
from pipeline.broker.messages import as_adopted, encode, whole_ms
from pipeline.broker.notify import Notifier
from pipeline.broker.placing import run_again, standing, stood_for, with_own_keys
from pipeline.broker.results import PostgresResultBackend
from pipeline.broker.runner import Runner
from pipeline.broker.sender import Sender, in_our_words
from pipeline.broker.tally import Tally
from pipeline.context import CurrentTask, NewTask, find_current_task
from pipeline.db.embedded import database_url
from pipeline.db.pool import Deadline, Pool
from pipeline.db.statements import load
from pipeline.errors import ConfigurationError
from pipeline.middleware import stack
from pipeline.settings import Settings, get_settings
from pipeline.store import tasks
from pipeline.store.audit import By

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dramatiq import Message
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.broker.hub import Hub
    from pipeline.context import Standing

#: Options a message must not carry into the store: the row holds them, and Dramatiq would act on them again.
_OWN_OPTIONS = frozenset({"eta"})


class PostgresBroker(dramatiq_pg.PostgresBroker):
    """A Dramatiq broker whose queue is PostgreSQL. Constructing one opens no connection.

    Args:
        url: The database; by default ``DATABASE_URL`` or, without it, the embedded server of ``pipeline up``.
        middleware: None for our stack (see ``pipeline.middleware``); a list is used as it is.
        schema: Where our tables live.
        inbox_schema: Where dramatiq-pg keeps its table, from which tasks of unmodified producers are adopted.
        inbox_prefix: What dramatiq-pg was told to put in front of its table's name.
        settings: Instead of those read from the environment.

    Raises:
        ConfigurationError: Another broker of this process uses another inbox: dramatiq-pg keeps the text of its
            statements in a global.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        middleware: list[Middleware] | None = None,
        schema: str | None = None,
        inbox_schema: str | None = None,
        inbox_prefix: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings or get_settings()
        self.schema = schema or self.settings.schema_name
        self.inbox = _claim_inbox(
            inbox_schema or self.settings.inbox_schema,
            self.settings.inbox_prefix if inbox_prefix is None else inbox_prefix,
        )
        self._given_url = url
        self._hooks = Hooks(self)
        self._joins: list[Callable[[], Any]] = []
        #: Called by name at the points where a crash is most interesting. For tests.
        self.probe: Callable[[str, Any], None] | None = None
        self.interrupter = Interrupter()
        self.engine = Engine(self)
        self.runner = Runner(self)
        self.tally = Tally()
        self.hub: Hub = None  # type: ignore[assignment]  # set while a worker runs in this process
        #: Runs tasks where they are sent; None unless PIPELINE_EAGER is set.
        self.eager: Eager | None = None
        if self.settings.eager:
            make_eager(self)
        pool = Pool(lambda: self.url, maxconn=64)
        super().__init__(pool=pool, results=False, schema=self.inbox[0], prefix=self.inbox[1], middleware=[])
        for each in self._stack() if middleware is None else middleware:
            self.add_middleware(each)
        self.add_middleware(self.engine)

    # --- what it is made of, on first use -----------------------------------------------------------------------------

    @cached_property
    def url(self) -> str:
        """The database's address."""
        return self._given_url or database_url(self.settings)

    @property
    def is_working(self) -> bool:
        """Tell whether a worker runs in this process."""
        return self.hub is not None and self.hub.is_alive()  # type: ignore[redundant-expr]

    @cached_property
    def sql(self) -> Mapping[str, str]:
        """The named statements for our schema."""
        return load(self.schema)

    @cached_property
    def transactions(self) -> Pool:
        """Connections for transactions that belong to the engine."""
        return Pool(lambda: self.url, maxconn=256)

    @cached_property
    def readings(self) -> Pool:
        """Connections for whoever waits for an answer now, and would rather hear soon that there is none."""
        return Pool(lambda: self.url, maxconn=self.settings.http_connections, timeout_seconds=2)

    @cached_property
    def notifier(self) -> Notifier:
        """Wakes idle workers."""
        return Notifier(self.pool, self.schema)

    @cached_property
    def sender(self) -> Sender:
        """Sends outside anybody's transaction."""
        return Sender(self.pool, lambda: self.sql, self.notifier, may_prepare=self.settings.listen)

    def _stack(self) -> list[Middleware]:
        self.backend = PostgresResultBackend(broker=self)
        return stack(self, self.backend)

    # --- declarations ---------------------------------------------------------------------------------------------

    @property
    def actor_options(self) -> set[str]:
        """What actors may be declared with."""
        declared = {"transactional", "hard_time_limit", "on_conflict"}
        return self._actor_options | declared | limits.OPTIONS | KEYS | labels.DECLARED | masks.OPTIONS

    @actor_options.setter
    def actor_options(self, options: set[str]) -> None:
        self._actor_options = options

    def add_middleware(self, middleware: Middleware, **where: Any) -> None:
        """Add a middleware; see Dramatiq."""
        self._hooks.forget()
        super().add_middleware(middleware, **where)

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue. Delayed tasks wait in it as rows, so there is no second queue for them."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues[queue_name] = True
            self.emit_after("declare_queue", queue_name)

    # --- enqueue --------------------------------------------------------------------------------------------------

    def enqueue(self, message: Message[Any], *, delay: float | None = None) -> Message[Any]:
        """Enqueue a message: in the transaction it belongs to, or at once on a connection of our own.

        A message id that is known already waits once: a waiting task is replaced, a finished one runs again, and the
        running task's own message means that this run ends in another one.

        Returns:
            The message; if another task has its key and stands for it, with that one's id. Where a send is written
            later (``at_exit``, the sends of a transactional actor, what follows a run) it keeps its own id.

        Raises:
            QueueNotFound: The message's queue was never declared here.
            MessageNotEncodable: It cannot be written as JSON that PostgreSQL accepts.
            MessageTooLarge: It is larger than the limit.
            DuplicateTask: Another task has its key, and ``on_conflict`` is "error".
            DatabaseUnavailable: PostgreSQL did not answer within five seconds.
        """
        message = self._tidied(message)
        self.emit_before("enqueue", message, delay)
        task = find_current_task()
        if task is not None and message.message_id == task.task_id:
            run_again(task, whole_ms(delay or 0), message.options)
        else:
            message = standing(message, self.place((self.encoded(message, delay),)))
        self.emit_after("enqueue", message, delay)
        return message

    def send_many(self, messages: Iterable[Message[Any]], *, delay: float | None = None) -> list[Message[Any]]:
        """Enqueue many messages, all or none, in one statement. Raises as :meth:`enqueue` does."""
        tidied = [self._tidied(message) for message in messages]
        is_heard = self._hooks.any_around("enqueue")
        for message in tidied if is_heard else ():
            self.emit_before("enqueue", message, delay)
        others = self.place(self.encoded(message, delay) for message in tidied)
        placed = [standing(message, others) for message in tidied] if others else tidied
        for message in placed if is_heard else ():
            self.emit_after("enqueue", message, delay)
        return placed

    def _tidied(self, message: Message[Any]) -> Message[Any]:
        """Undo what another broker's delay did to a message, and give it the key that its actor computes."""
        queue = q_name(message.queue_name)
        if queue not in self.queues:
            raise QueueNotFound(queue)
        if queue != message.queue_name or not _OWN_OPTIONS.isdisjoint(message.options):
            message = message.copy(queue_name=queue)
            for option in _OWN_OPTIONS:
                message.options.pop(option, None)
        actor = self.actors.get(message.actor_name)
        return message if actor is None else with_own_keys(message, actor.options)

    def encoded(self, message: Message[Any], delay: float | None = None) -> NewTask:
        """Make a message ready for the store."""
        actor = self.actors.get(message.actor_name)
        priority, options = (0, {}) if actor is None else (actor.priority, actor.options)
        limit = self.settings.message_limit_bytes
        sent_by = find_current_task()
        new = encode(message, priority, delay, limit, options, is_new=take_new(message), sent_by=sent_by)
        # Where tasks run as they are sent, nobody holds a key.
        return new if self.eager is None else replace(new, keys=None)

    def place(self, new: Iterable[NewTask]) -> Standing:
        """Put tasks where they belong: a run's capture, a transaction, or the database at once."""
        task = find_current_task()
        if task is not None and task.capture is not None:
            return self._capture(task, list(new))
        if (target := self._joined(task)) is not None:
            many = list(new)
            self.sender.ensure_lanes(each.lane for each in many)
            return target.send(many)
        return self.sender.send_many(new)

    def _capture(self, task: CurrentTask, new: list[NewTask]) -> Standing:
        assert task.capture is not None  # noqa: S101 - the caller looked
        self.sender.ensure_lanes(each.lane for each in new)
        task.capture.sends += new if task.message.inbox is None else map(as_adopted, new)
        return {}

    def _joined(self, task: CurrentTask | None) -> Joined | None:
        if (target := joined()) is not None:
            return target
        if task is not None and (transaction := task.joined()) is not None:
            return JoinedTask(transaction)
        for find in self._joins:
            if (found := find()) is not None:
                return self._join(found)
        return None

    def _join(self, target: Any, *, at_exit: bool = False) -> Joined | None:
        if self.eager is not None:
            return self.eager.join(target)
        return join(target, self._write, self.notifier.notify_soon, at_exit=at_exit)

    def _write(self, cursor: Cursor, new: list[NewTask]) -> Standing:
        with in_our_words():
            if len(new) > 1:
                return Bulk(new).write(self.sql, cursor)
            return stood_for(new[0], tasks.enqueue(self.sql, cursor, new[0], mode=mode_of(new, None)))

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """Let the sends inside the block be enqueued together at its end, all or none."""
        batch = Batch()
        with joining(batch):
            yield
        if batch.sends:
            self.place(batch.sends)

    @contextmanager
    def enlist(self, target: Any, *, at_exit: bool = False) -> Iterator[None]:
        """Let sends inside the block belong to the caller's transaction.

        Args:
            target: A psycopg2 connection, a SQLAlchemy Session (or scoped_session) or a SQLAlchemy Connection.
            at_exit: For a psycopg2 connection only: write everything as one statement when the block ends, instead of
                each send at once. Commit after the block, and set no savepoints inside it.
        """
        with joining(self._join(target, at_exit=at_exit)):
            yield

    def join_sends_to(self, find: Callable[[], Any]) -> None:
        """Let every send join what ``find`` returns (as :meth:`enlist` takes it), unless that is None."""
        self._joins.append(find)

    # --- hooks ----------------------------------------------------------------------------------------------------

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks of a signal, after what the engine itself does at it."""
        if signal == "process_message":
            self.runner.begin(args[0])
            self._hooks.before_process(args[0])
            self.runner.refuse_doomed(args[0])
            return
        if signal in {"ack", "nack"}:
            self.interrupter.end_if_running()
        self._hooks.call_before(signal, *args, **kwargs)

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        """Call the hooks of a signal; those that end a run have its outcome captured."""
        if signal == "process_message":
            self.runner.finish(args[0], kwargs.get("result"), kwargs.get("exception"), self._hooks.after_process)
        elif signal == "skip_message":
            self.runner.skip(args[0], lambda: self._hooks.call_after(signal, *args))
        elif signal == "nack":
            self.runner.nack(args[0], lambda: self._hooks.call_after(signal, *args))
            self.hub.put(args[0])
        else:
            self._hooks.call_after(signal, *args, **kwargs)

    def emit_point(self, name: str, proxy: Any) -> None:
        """Tell a test that a run has come to a point where a crash is interesting."""
        if self.probe is not None:
            self.probe(name, proxy)

    # --- consume --------------------------------------------------------------------------------------------------

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 30_000) -> QueueFacade:
        """Open the facade that Dramatiq's worker keeps for a queue; the hub does the claiming."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        return QueueFacade(self.hub, queue_name, timeout)

    # --- what tests and operators of Dramatiq know ------------------------------------------------------------------

    def get_declared_delay_queues(self) -> set[str]:
        """There are none: delayed tasks wait in their own queue."""
        return set()

    def flush(self, queue_name: str) -> None:
        """Cancel all that waits in a queue."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        with self.pool.connection() as connection, connection.cursor() as cursor:
            tasks.flush(self.sql, cursor, q_name(queue_name), By("flush"))

    def flush_all(self) -> None:
        """Cancel all that waits in the declared queues."""
        for queue_name in self.queues:
            self.flush(queue_name)

    def join(self, queue_name: str, *, interval: int = 50, timeout: int | None = None) -> None:
        """Wait until nothing waits (due or not) or runs in a queue.

        Raises:
            QueueJoinTimeout: It takes longer than ``timeout`` milliseconds.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        deadline = Deadline(float("inf") if timeout is None else timeout / 1000)
        while self._pending(queue_name):
            if deadline.is_over:
                raise QueueJoinTimeout(queue_name)
            threading.Event().wait(interval / 1000)

    def _pending(self, queue_name: str) -> int:
        with self.pool.connection() as connection, connection.cursor() as cursor:
            return tasks.pending(self.sql, cursor, q_name(queue_name))

    def close(self) -> None:
        """Close the idle connections, and let the threads that wait for work end."""
        if "notifier" in self.__dict__:
            self.notifier.close()
        for pool in (self.pool, self.transactions, self.readings):
            pool.closeall()


_claimed_inbox: list[tuple[str, str]] = []


def _claim_inbox(schema: str, prefix: str) -> tuple[str, str]:
    names = (schema, prefix)
    if _claimed_inbox and _claimed_inbox[0] != names:
        message = f"Another broker of this process uses the inbox {_claimed_inbox[0]}; this one names {names}"
        raise ConfigurationError(message)
    _claimed_inbox[:] = [names]
    return names
