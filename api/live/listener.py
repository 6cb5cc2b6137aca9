"""The one thread of a web process that asks the database for everybody who watches."""

from __future__ import annotations

import select
import threading
import time
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import sql as identifiers

from api.live.frames import frame
from api.live.overview import Overview
from api.live.snapshots import Snapshot
from api.live.subscription import Event, Follower, Subscription, Watcher
from pipeline.db.connection import connect, is_direct
from pipeline.errors import PipelineError
from pipeline.logger import get_logger
from pipeline.runtime import our_broker
from pipeline.store import live, metrics, tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.broker.broker import PostgresBroker
    from pipeline.settings import Settings

#: How often it looks: while something happens, and while nothing does.
_BUSY_SECONDS, _IDLE_SECONDS = 0.5, 1.0
#: A wake-up or a new client lets it look sooner, but not sooner than this after the last look.
_GAP_SECONDS = 0.1
#: A look that took long is followed by a rest of so many times as long, up to so many seconds (with somebody new, or a
#: wake-up): the database has other things to do.
_REST, _LONGEST_REST_SECONDS, _LONGEST_WAIT_SECONDS = 10, 3.0, 1.0
#: How long a statement may take, and how long we wait for a server that does not answer.
_STATEMENT_SECONDS, _ANSWER_SECONDS = 2.0, 10.0
#: How often it looks whether those who watch still may.
_CHECK_SECONDS = 5.0
#: It stays for so long when nobody watches any more, for those who connect again.
_LINGER_SECONDS = 2.0

log = get_logger(__name__)


class Listener:
    """Looks while anybody watches, on one connection of its own. It LISTENs where the connection is direct."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self._thread: threading.Thread | None = None
        #: Somebody has come, or all are to go.
        self._bell = threading.Event()
        self._is_closing = False
        self._overview = Overview()
        self._connection: Connection | None = None
        self._is_new = False
        self._is_listening = False
        self._is_away = False
        self._check_due = 0.0

    # --- called from other threads ------------------------------------------------------------------------------------

    def add(self, subscription: Subscription) -> None:
        """Tell a client what happens from now on, and what there is."""
        with self._lock:
            self._subscriptions.add(subscription)
            self._bell.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pipeline-live", daemon=True)
                self._thread.start()

    def remove(self, subscription: Subscription) -> None:
        """Tell a client nothing more."""
        with self._lock:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End soon. Takes no lock, so that it may be called by what interrupts anything."""
        self._is_closing = True

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Look again and again, until nobody watches."""
        while not self._is_over():
            self._bell.clear()  # before the clients are counted: who comes now is among them
            began, is_busy = time.monotonic(), False
            try:
                is_busy = self._look(our_broker())
            except (psycopg2.Error, PipelineError, OSError) as error:
                self._lose(error)
            except Exception:
                log.exception("live.failed")
                self._lose(None)
            self._rest(began, is_busy=is_busy)
        self._disconnect()

    def _is_over(self) -> bool:
        """Tell whether nobody has watched for a while; forget the thread then, while nobody can come in between."""
        if not self._watching() and not self._is_closing:
            self._bell.wait(_LINGER_SECONDS)
        with self._lock:
            if self._subscriptions and not self._is_closing:
                return False
            self._thread = None
            return True

    def _watching(self) -> list[Subscription]:
        with self._lock:
            return list(self._subscriptions)

    def _look(self, broker: PostgresBroker) -> bool:
        """Ask once and tell everybody; return whether anything has changed."""
        clients = self._watching()
        followers = [client for client in clients if isinstance(client, Follower)]
        watchers = [client for client in clients if isinstance(client, Watcher)]
        connection = self._connected(broker)
        if self._is_away:
            _begin_anew(followers, watchers)
        with (
            broker.pool.within(connection, _ANSWER_SECONDS),
            connection,  # a transaction: the limit of time holds for that, and a pooler gives one session for it
            connection.cursor() as cursor,
        ):
            metrics.limit_time(broker.sql, cursor, _STATEMENT_SECONDS)
            wanted = self._overview.look(broker.sql, cursor, followers) if followers else set()
            wanted.update(watcher.task_id for watcher in watchers)
            rows = live.tasks(broker.sql, cursor, wanted) if wanted else []
            self._refuse_ended(broker.sql, cursor, clients)
        if self._is_away:
            self._is_away = False
            log.info("live.resumed")
        snapshots = [Snapshot(row) for row in rows]
        has_changed = bool(followers) and self._overview.tell(followers, snapshots)
        return _tell_watchers(watchers, snapshots) or has_changed

    def _refuse_ended(self, sql: Mapping[str, str], cursor: Cursor, clients: Sequence[Subscription]) -> None:
        """Look now and then whether all may still watch, and send away those who may not."""
        shown = {client.credential for client in clients if client.credential is not None}
        if not shown or time.monotonic() < self._check_due:
            return
        good = tokens.good(sql, cursor, shown)
        self._check_due = time.monotonic() + _CHECK_SECONDS
        for client in clients:
            if client.credential is not None and client.credential not in good:
                client.refuse()

    def _connected(self, broker: PostgresBroker) -> Connection:
        if self._connection is None or self._connection.closed:
            url = self._settings.listen_database_url or broker.url
            connection = connect(url, within=self._settings.connect_timeout_seconds, application_name="pipeline live")
            self._connection = connection
            connection.autocommit = True
            self._is_new = True
            self._is_listening = self._settings.listen and is_direct(connection)
            if self._is_listening:
                with connection.cursor() as cursor:
                    cursor.execute(identifiers.SQL("LISTEN {}").format(identifiers.Identifier(broker.schema)))
        return self._connection

    def _rest(self, began: float, *, is_busy: bool) -> None:
        """Wait until it is time to look again, or somebody wakes us."""
        now = time.monotonic()
        rest = 0.0 if self._is_new else _REST * (now - began)  # the first look plans, which takes much longer
        self._is_new = False
        earliest = now + max(_GAP_SECONDS, min(rest, _LONGEST_WAIT_SECONDS))
        due = max(began + (_BUSY_SECONDS if is_busy else _IDLE_SECONDS), now + min(rest, _LONGEST_REST_SECONDS))
        while (now := time.monotonic()) < due and self._subscriptions and not self._is_closing:
            if self._bell.wait(min(_GAP_SECONDS, due - now)) or (not is_busy and self._was_woken()):
                self._bell.clear()
                due = min(due, earliest)

    def _was_woken(self) -> bool:
        """Tell whether somebody has sent a task."""
        if self._connection is None or self._connection.closed or not self._is_listening:
            return False
        with suppress(psycopg2.Error, OSError):
            if select.select([self._connection], [], [], 0)[0]:
                self._connection.poll()
        was_woken = bool(self._connection.notifies)
        self._connection.notifies.clear()
        return was_woken

    # --- while the database is away -----------------------------------------------------------------------------------

    def _lose(self, error: Exception | None) -> None:
        """Tell everybody, once, that nobody knows what happens now."""
        self._disconnect()
        if self._is_away:
            return
        self._is_away = True
        log.warning("live.interrupted", error=str(error).strip())
        event = Event(frame("outage", {"detail": "PostgreSQL does not answer; what is shown may be old."}))
        for client in self._watching():
            client.put(event)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None


def _begin_anew(followers: Iterable[Follower], watchers: Iterable[Watcher]) -> None:
    """Let everybody be told anew what there is, after an outage."""
    for follower in followers:
        follower.begin_anew("outage")
    for watcher in watchers:
        watcher.seen = None


def _tell_watchers(watchers: Sequence[Watcher], snapshots: Iterable[Snapshot]) -> bool:
    """Tell those who watch one task, if it is not as they have seen it; return whether any is not."""
    waiting: defaultdict[int, list[Watcher]] = defaultdict(list)
    for watcher in watchers:
        waiting[watcher.task_id].append(watcher)
    has_changed = False
    for snapshot in snapshots:
        for watcher in waiting.pop(snapshot.row.id, ()):
            seen = snapshot.seen_by(watcher)
            if watcher.seen != seen.version:
                watcher.seen = seen.version
                watcher.put(_event(seen))
                has_changed = True
    for watcher in (watcher for gone in waiting.values() for watcher in gone):
        watcher.put(Event(_end("gone"), is_state=True, is_last=True))
    return has_changed


def _event(snapshot: Snapshot) -> Event:
    """Tell a task's state, and that it is the last one if nothing more happens by itself."""
    end = _end(snapshot.row.state.value) if snapshot.is_final else b""
    return Event(snapshot.frame + end, is_state=True, is_last=snapshot.is_final)


def _end(state: str) -> bytes:
    data: dict[str, Any] = {"state": state}
    return frame("end", data)
