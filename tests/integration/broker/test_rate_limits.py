"""Rate limiters, barriers and Dramatiq's own group callbacks, over PostgreSQL alone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.middleware import Callbacks, CurrentMessage, GroupCallbacks, Pipelines, Retries
from dramatiq.rate_limits import Barrier, BucketRateLimiter, ConcurrentRateLimiter, WindowRateLimiter
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from pipeline import PostgresBroker, PostgresRateLimiterBackend
from pipeline.errors import DatabaseUnavailable
from tests.fixtures.broker import global_broker, working
from tests.fixtures.wait import eventually

MINUTE = 60_000


@pytest.fixture
def backend(database_url):
    backend = PostgresRateLimiterBackend(url=database_url)
    yield backend
    backend._pool.closeall()


@pytest.fixture
def expire(rows):
    """Let the time of all keys be over."""
    return lambda: rows("UPDATE pipeline.rate_limit SET expires_at = clock_timestamp()")


def test_constructing_one_does_no_io():
    PostgresRateLimiterBackend(url="postgresql://nobody@127.0.0.1:1/nowhere")


def test_a_database_that_is_away_is_a_connection_error():
    backend = PostgresRateLimiterBackend(url="postgresql://nobody@127.0.0.1:1/nowhere")

    with pytest.raises(dramatiq.errors.ConnectionError):
        backend.add("key", 1, MINUTE)


def test_url_and_broker_together_are_refused(broker):
    with pytest.raises(ValueError, match="either"):
        PostgresRateLimiterBackend(url="postgresql://here/", broker=broker)


def test_it_shares_the_connections_of_a_broker(broker):
    assert PostgresRateLimiterBackend(broker=broker).add("key", 1, MINUTE) is True


# --- what each operation means ----------------------------------------------------------------------------------------


def test_a_key_is_added_once_until_its_time_is_over(backend, expire):
    assert backend.add("key", 1, MINUTE) is True
    assert backend.add("key", 5, MINUTE) is False

    expire()

    assert backend.add("key", 5, MINUTE) is True
    assert backend.decr("key", 5, 0, MINUTE) is True


def test_an_expired_key_counts_from_zero(backend, expire):
    backend.add("key", 10, MINUTE)
    expire()

    assert backend.decr("key", 1, 0, MINUTE) is False
    assert backend.incr("key", 2, 2, MINUTE) is True
    assert backend.incr("key", 1, 2, MINUTE) is False


def test_a_success_starts_the_time_anew_and_a_refusal_does_not(backend, rows):
    left = "SELECT extract(epoch FROM expires_at - clock_timestamp()) > 50 FROM pipeline.rate_limit"
    backend.add("key", 1, 1_000)

    backend.incr("key", 5, 2, MINUTE)
    assert rows(left) == [(False,)]
    backend.incr("key", 1, 2, MINUTE)
    assert rows(left) == [(True,)]


class Redis:
    """What Dramatiq's Redis backend does, without time."""

    def __init__(self):
        self.db = {}

    def add(self, key, value):
        return key not in self.db and self._set(key, value)

    def incr(self, key, amount, maximum):
        value = self.db.get(key, 0) + amount
        return value <= maximum and self._set(key, value)

    def decr(self, key, amount, minimum):
        value = self.db.get(key, 0) - amount
        return value >= minimum and self._set(key, value)

    def incr_and_sum(self, key, keys, amount, maximum):
        value = self.db.get(key, 0) + amount
        total = amount + sum(self.db.get(each, 0) for each in keys)
        return value <= maximum and total <= maximum and self._set(key, value)

    def _set(self, key, value):
        self.db[key] = value
        return True


_keys = st.sampled_from(["a", "b", "a@1", "a@2"])
_numbers = st.integers(-3, 5)
_operations = st.one_of(
    st.tuples(st.just("add"), _keys, _numbers),
    st.tuples(st.just("incr"), _keys, _numbers, _numbers),
    st.tuples(st.just("decr"), _keys, _numbers, _numbers),
    st.tuples(st.just("incr_and_sum"), _keys, st.lists(_keys, unique=True, max_size=3), _numbers, _numbers),
)


@examples(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(_operations, max_size=12))
def test_each_operation_answers_as_redis_would(backend, rows, operations):
    rows("TRUNCATE pipeline.rate_limit")
    redis = Redis()

    for name, *arguments in operations:
        assert getattr(backend, name)(*arguments, ttl=MINUTE) == getattr(redis, name)(*arguments)


def test_the_keys_of_a_sum_may_be_a_callable_that_looks_at_the_clock(backend):
    backend.add("other", 3, MINUTE)

    assert backend.incr_and_sum("key", lambda: ["other"], 2, 4, MINUTE) is False
    assert backend.incr_and_sum("key", lambda: ["other"], 1, 4, MINUTE) is True


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_a_wait_ends_with_the_notification(backend):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(backend.wait, "event", 10_000)
        backend.wait_notify("event", MINUTE)

        assert waiting.result() is True


def test_one_who_comes_late_is_not_left_waiting(backend):
    backend.wait_notify("event", MINUTE)

    assert backend.wait("event", 1_000) is True
    assert backend.wait("event", None) is True


def test_a_wait_ends_with_its_time(backend, expire):
    backend.wait_notify("event", MINUTE)
    expire()

    assert backend.wait("event", 20) is False


def test_a_wait_outlives_a_database_that_is_away(backend, monkeypatch):
    run, failures = backend._run, iter([DatabaseUnavailable("away"), DatabaseUnavailable("away")])

    def failing(statement):
        for failure in failures:
            raise failure
        return run(statement)

    backend.wait_notify("event", MINUTE)
    monkeypatch.setattr(backend, "_run", failing)

    assert backend.wait("event", 10_000) is True


def test_a_lost_connection_is_told_as_such(backend, connect):
    backend.add("key", 1, MINUTE)
    with connect(autocommit=True).cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%rate%'"
        )

        with pytest.raises(DatabaseUnavailable):
            backend.incr("key", 1, 5, MINUTE)
    assert backend.incr("key", 1, 5, MINUTE) is True


# --- what Dramatiq makes of them --------------------------------------------------------------------------------------


def test_a_barrier_lets_all_go_when_the_last_one_comes(backend):
    barrier = Barrier(backend, str(uuid4()), ttl=MINUTE)
    assert barrier.create(parties=3) is True
    assert barrier.create(parties=3) is False

    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(barrier.wait, block=True, timeout=10_000) for _ in range(2)]
        eventually(lambda: not backend.decr(barrier.key, 2, 0, MINUTE))  # two have come
        assert barrier.wait(block=True, timeout=1_000) is True

        assert [each.result() for each in first] == [True, True]


def test_a_barrier_that_does_not_block_tells_the_last_one(backend):
    barrier = Barrier(backend, str(uuid4()))
    barrier.create(parties=3)

    assert [barrier.wait(block=False) for _ in range(3)] == [False, False, True]


def _most_at_once(limiter, threads=8, rounds=15):
    """Let threads take and free the limiter; return how many held it at once, and how often it was had."""
    lock, inside, seen = threading.Lock(), [0], []

    def work(_):
        for _ in range(rounds):
            with limiter.acquire(raise_on_failure=False) as acquired:
                if acquired:
                    with lock:
                        inside[0] += 1
                        seen.append(inside[0])
                    threading.Event().wait(0.002)
                    with lock:
                        inside[0] -= 1

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return max(seen), len(seen)


def test_a_concurrent_limiter_is_never_exceeded_by_threads(backend, rows):
    most, often = _most_at_once(ConcurrentRateLimiter(backend, "mutex", limit=3, ttl=MINUTE))

    assert most <= 3
    assert often > 3
    assert rows("SELECT value FROM pipeline.rate_limit") == [(0,)]  # every slot was given back


_PROCESS = """
import sys, psycopg2
from dramatiq.rate_limits import ConcurrentRateLimiter
from pipeline import PostgresRateLimiterBackend
url = sys.argv[1]
connection = psycopg2.connect(url)
connection.autocommit = True
cursor = connection.cursor()
limiter = ConcurrentRateLimiter(PostgresRateLimiterBackend(url=url), "mutex", limit=2, ttl=60_000)
had = 0
while had < 25:
    with limiter.acquire(raise_on_failure=False) as acquired:
        if acquired:
            had += 1
            cursor.execute("INSERT INTO holder VALUES (pg_backend_pid())")
            cursor.execute("INSERT INTO seen SELECT count(*) FROM holder")
            cursor.execute("DELETE FROM holder WHERE pid = pg_backend_pid()")
"""


@pytest.mark.stress
def test_a_concurrent_limiter_is_never_exceeded_by_processes(database_url, rows):
    rows("CREATE TABLE holder (pid int); CREATE TABLE seen (n int)")
    processes = [subprocess.Popen([sys.executable, "-c", _PROCESS, database_url]) for _ in range(3)]

    assert [process.wait(50) for process in processes] == [0, 0, 0]

    assert rows("SELECT count(*) = 75, max(n) <= 2 FROM seen") == [(True, True)]


def test_a_bucket_holds_as_many_as_it_should(backend, monkeypatch):
    limiter = BucketRateLimiter(backend, "bucket", limit=5, bucket=3_600_000)
    monkeypatch.setattr("dramatiq.rate_limits.bucket.time.time", lambda: 1_700_000_000)

    with ThreadPoolExecutor(8) as pool:
        had = list(pool.map(lambda _: limiter._acquire(), range(40)))

    assert sum(had) == 5


def test_a_window_holds_as_many_as_it_should_also_where_seconds_meet(backend):
    """Callers of different seconds count under different keys; neither may look before the other has counted, nor
    overlook what was counted in the second after its own."""
    limiter = WindowRateLimiter(backend, "user@example.com", limit=5, window=60)
    now = threading.local()
    limiter._get_keys = lambda: [f"{limiter.key}@{now.second - i}" for i in range(limiter.window)]

    def acquire(n):
        now.second = 1_700_000_000 + n % 3
        return limiter._acquire()

    with ThreadPoolExecutor(8) as pool:
        had = list(pool.map(acquire, range(60)))

    assert sum(had) == 5


def test_a_caller_that_waited_while_a_second_went_by_sees_what_was_counted_in_it(backend):
    """It computed its keys before."""

    def acquire(key, second):
        return backend.incr_and_sum(f"{key}@{second}", [f"{key}@{second}", f"{key}@{second - 1}"], 1, 2, 60_000)

    assert all(acquire("limit", 1_700_000_008) for _ in range(2))

    assert not acquire("limit", 1_700_000_007)
    assert acquire("limit", 1_700_000_005)
    assert acquire("other", 1_700_000_007)
    assert all(acquire("version", 8) for _ in range(2))
    assert acquire("version", 7)  # no time


def test_two_sums_over_each_others_new_keys_come_one_after_the_other(connect):
    """Neither key is there yet, so there is no row that the second could wait for."""
    call = "SELECT pipeline.sum_rate_v1(%s, '{limit@1,limit@2}', 1, 1, 60000)"
    with connect() as first, connect(autocommit=True) as second, first.cursor() as one, second.cursor() as two:
        one.execute(call, ("limit@1",))
        assert one.fetchone() == (True,)
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(two.execute, call, ("limit@2",))
            eventually(lambda: _is_waiting(connect, second))
            first.commit()
            other.result()

        assert two.fetchone() == (False,)


def _is_waiting(connect, connection):
    with closing(connect(autocommit=True)) as looking, looking.cursor() as cursor:
        cursor.execute(
            "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = %s", (connection.info.backend_pid,)
        )
        return cursor.fetchone()[0]


def test_a_purge_never_takes_a_living_key(backend, rows):
    """A key that is purged while somebody counts on it is simply made again."""
    is_over = threading.Event()

    def purge():
        while not is_over.is_set():
            rows("DELETE FROM pipeline.rate_limit WHERE expires_at <= clock_timestamp()")

    thread = threading.Thread(target=purge)
    thread.start()
    try:
        counted = [backend.incr(f"key{number % 3}", 1, 1_000, 1) for number in range(300)]
    finally:
        is_over.set()
        thread.join()

    assert all(counted)


def test_dramatiqs_own_group_callbacks_need_nothing_else(settings, rows):
    backend = PostgresRateLimiterBackend(settings=settings)
    stack = [Callbacks(), Pipelines(), Retries(), GroupCallbacks(backend), CurrentMessage()]
    done = []

    with global_broker(PostgresBroker(settings=settings, middleware=stack)) as broker:

        @dramatiq.actor
        def member(number):
            return number

        @dramatiq.actor
        def finished():
            done.append(time.monotonic())

        with working(broker):
            group = dramatiq.group([member.message(number) for number in range(5)])
            group.add_completion_callback(finished.message())
            group.run()

            eventually(lambda: done)
            broker.join("default", timeout=5_000)
    backend._pool.closeall()

    assert len(done) == 1
