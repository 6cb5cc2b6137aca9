"""Who a worker process is to the database: one connection, and the id and session that fence its outcomes."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg2

from pipeline.broker.limits import limits_of
from pipeline.broker.sender import is_transient
from pipeline.broker.signatures import announcement
from pipeline.db import migrate
from pipeline.db.connection import is_direct
from pipeline.errors import LeaseLost
from pipeline.logger import get_logger
from pipeline.store import cancels, workers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.fleet import Fleet
    from pipeline.store.workers import Lane, RunningTask

_LEASE_LOST = "PQ002"
#: Who has missed so many beats is not counted among those that others can rely on.
_BEATS = 2
#: Classes of transient errors after which the connection can be used again: conflicts, full disks, locks.
_SOUND_CLASSES = frozenset({"40", "53", "55", "58"})

log = get_logger(__name__)


class Identity:
    """Registers as a worker, resumes after a lost connection, and says what only that worker may say."""

    def __init__(self, broker: PostgresBroker, threads: int, fleet: Fleet) -> None:
        self._broker = broker
        self._threads = threads
        self._fleet = fleet
        self._connection: Connection | None = None
        #: Whether the connection's session has the exchange parsed and planned.
        self._is_prepared = False
        #: 0 while we are nobody.
        self.worker_id = 0
        self._session = 0

    @property
    def is_connected(self) -> bool:
        """Tell whether there is a session to speak on."""
        return self._connection is not None

    def connect(self, known_claims: Iterable[int]) -> None:
        """Open the connection; register as a new worker, or begin a new session of this one.

        Args:
            known_claims: What this process knows to hold; the database takes back what is not among them.

        Raises:
            LeaseLost: The worker was declared dead meanwhile.
        """
        migrate.check(self._broker.url, self._broker.schema)
        self._connection = self._broker.pool.open()
        try:
            if self.worker_id:
                self._resume(known_claims)
            else:
                self._register()
            self._prepare()
            with self._cursor() as cursor:
                self._broker.tally.set_clock(workers.clock(self._broker.sql, cursor))
        except BaseException:
            self.disconnect()  # or the next exchange would go out on a session that was never begun
            raise

    def _prepare(self) -> None:
        """Spare each exchange a fifth of its cost, where no pooler hands the next one to another session."""
        self._is_prepared = False
        if self._broker.settings.listen and self._connection is not None and is_direct(self._connection):
            with self._cursor() as cursor:
                workers.prepare_exchange(self._broker.sql, cursor)
            self._is_prepared = True

    def _resume(self, known_claims: Iterable[int]) -> None:
        for pool in (self._broker.pool, self._broker.transactions):
            pool.drop_idle()  # what broke our connection has most likely broken these
        with self._cursor() as cursor:
            session = workers.resume(self._broker.sql, cursor, self.worker_id, known_claims)
        if session is None:
            raise LeaseLost
        self._session = session
        log.info("worker.resumed", worker_id=self.worker_id, session=session)

    def _register(self) -> None:
        queues = sorted(self._broker.get_declared_queues())
        actors = self._broker.actors.values()
        self._broker.sender.ensure_lanes((queue, 0) for queue in queues)
        known = []
        for actor in actors:
            limits = limits_of(actor.options)
            self._broker.sender.ensure_lanes([(actor.queue_name, actor.priority, limits is not None)])
            where = {"queue": actor.queue_name, "priority": actor.priority}
            known.append({"name": actor.actor_name, **where, "limits": limits, **announcement(actor)})
        with self._cursor() as cursor:
            workers.register_actors(self._broker.sql, cursor, json.dumps(known))
            self.worker_id = workers.register(
                self._broker.sql,
                cursor,
                host=socket.gethostname(),
                pid=os.getpid(),
                threads=self._threads,
                queues=queues,
                crashes=self._broker.runner.crashes,
                beat_seconds=self._broker.settings.beat_seconds,
            )
        self._broker.runner.work_as(self.worker_id)
        self._session = 1
        log.info("worker.started", worker_id=self.worker_id, queues=queues)

    def exchange(self, arguments: dict[str, Any]) -> list[Any]:
        """Write outcomes and claim, in one statement and one commit; return its header and the claimed rows.

        Raises:
            LeaseLost: The worker was declared dead, or a newer session of it has begun.
        """
        who = {"worker": self.worker_id, "session": self._session}
        try:
            with self._cursor() as cursor:
                return workers.exchange(self._broker.sql, cursor, arguments | who, is_prepared=self._is_prepared)
        except psycopg2.Error as error:
            if error.pgcode == _LEASE_LOST:
                raise LeaseLost from error
            raise

    def beat(self, running: Sequence[RunningTask] | None, queues: Iterable[str]) -> bool:
        """Tell that the worker lives and what runs in it; None if its master tells that.

        Returns:
            Whether it may go on; False if somebody wants it to claim nothing more.

        Raises:
            LeaseLost: It was declared dead.
        """
        with self._cursor() as cursor:
            fresh_seconds = _BEATS * self._broker.settings.beat_seconds
            told, standing, epoch = workers.beat(
                self._broker.sql, cursor, self.worker_id, running, sorted(queues), fresh_seconds
            )
        if told is None:
            raise LeaseLost
        self._fleet.learn(standing)
        self._broker.tally.set_clock(epoch)
        return told == "alive"

    def tell_running(self, running: Sequence[RunningTask]) -> None:
        """Tell what runs in the worker, between two beats."""
        with self._cursor() as cursor:
            workers.tell_running(self._broker.sql, cursor, {self.worker_id: running})

    def cancel_requests(self, ids: Iterable[int]) -> Collection[int]:
        """Tell which of these tasks somebody asked to end."""
        with self._cursor() as cursor:
            return cancels.requests(self._broker.sql, cursor, ids)

    def lanes(self) -> dict[int, Lane]:
        """Read what the lane numbers mean."""
        with self._cursor() as cursor:
            return workers.lanes(self._broker.sql, cursor)

    def forget(self) -> None:
        """Be nobody: the next connection registers a new worker."""
        self.worker_id = 0
        self._broker.runner.work_as(0)
        self.disconnect()

    def end(self) -> None:
        """Say goodbye; if nobody hears it, the lease runs out."""
        if self._connection is None:
            self._connection = self._broker.pool.open()
        if self.worker_id:
            with self._cursor() as cursor:
                workers.end(self._broker.sql, cursor, self.worker_id)
            self._broker.runner.work_as(0)
            log.info("worker.stopped", worker_id=self.worker_id)

    def disconnect_if_broken(self, error: Exception) -> None:
        """Keep a connection whose statement merely failed; another session would only be noise."""
        code = getattr(error, "pgcode", None) or ""
        is_sound = code[:2] in _SOUND_CLASSES and isinstance(error, psycopg2.Error) and is_transient(error)
        if self._connection is not None and (self._connection.closed or not is_sound):
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _cursor(self) -> Any:
        assert self._connection is not None  # noqa: S101 - only called between connect and disconnect
        return self._connection.cursor()
