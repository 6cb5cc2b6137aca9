"""pgqueuer: asyncpg and uvloop, and what its guide to performance advises for short tasks; BENCH_VARIANT is a batch."""

from __future__ import annotations

import asyncio
import json
import os
import threading

import asyncpg
import psycopg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries, SyncQueries

from tests.benchmarks.peers.tally import TALLY

BATCH = int(os.environ.get("BENCH_VARIANT", "25"))

_senders: list[SyncQueries] = []


def set_up() -> None:
    uvloop.run(_set_up())


async def _set_up() -> None:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    await queries.optimize_autovacuum()
    await connection.close()


def send_one(number: int, text: str) -> None:
    _sender().enqueue("noop", json.dumps([number, text]).encode())


def send_many(count: int, text: str) -> None:
    uvloop.run(_send_many(count, text))


async def _send_many(count: int, text: str) -> None:
    """By asyncpg: psycopg takes half as long again."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    queries = Queries(AsyncpgDriver(connection))
    for first in range(0, count, 5_000):
        numbers = range(first, min(first + 5_000, count))
        payloads = [json.dumps([number, text]).encode() for number in numbers]
        await queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))
    await connection.close()


def send_timed(sent_at: float) -> None:
    _sender().enqueue("timed", repr(sent_at).encode())


def _sender() -> SyncQueries:
    if not _senders:
        connection = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
        _senders.append(SyncQueries(SyncPsycopgDriver(connection)))
    return _senders[0]


def work(is_over: threading.Event) -> None:
    uvloop.run(_work(is_over))


async def _work(is_over: threading.Event) -> None:
    queue = PgQueuer(AsyncpgDriver(await asyncpg.connect(os.environ["DATABASE_URL"])))

    @queue.entrypoint("noop")
    async def noop(job: Job) -> None:
        json.loads(job.payload or b"")
        TALLY.add()

    @queue.entrypoint("timed")
    async def timed(job: Job) -> None:
        TALLY.began(float(job.payload or b""))

    running = asyncio.create_task(queue.run(batch_size=BATCH))
    await asyncio.to_thread(is_over.wait)
    queue.shutdown.set()
    await running
