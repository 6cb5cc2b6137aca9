"""procrastinate: tasks as coroutines, which cost it no threads; sends by its synchronous connector."""

from __future__ import annotations

import asyncio
import os
import threading

import procrastinate

from tests.benchmarks.peers.tally import TALLY

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))


@app.task(queue="bench")
async def noop(number: int, text: str) -> None:
    TALLY.add()


@app.task(queue="bench")
async def timed(sent_at: float) -> None:
    TALLY.began(sent_at)


def set_up() -> None:
    _open()
    app.schema_manager.apply_schema()


def send_one(number: int, text: str) -> None:
    _open()
    noop.defer(number=number, text=text)


def send_many(count: int, text: str) -> None:
    _open()
    for first in range(0, count, 1_000):
        noop.batch_defer(*({"number": number, "text": text} for number in range(first, min(first + 1_000, count))))


def send_timed(sent_at: float) -> None:
    _open()
    timed.defer(sent_at=sent_at)


_is_open = False


def _open() -> None:
    """Open its synchronous pool once; a worker opens the other one."""
    global _is_open  # noqa: PLW0603 - as long as the process
    if not _is_open:
        app.open()
        _is_open = True


def work(is_over: threading.Event) -> None:
    asyncio.run(_work(is_over))


async def _work(is_over: threading.Event) -> None:
    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=int(os.environ["BENCH_THREADS"]), install_signal_handlers=False)
        )
        await asyncio.to_thread(is_over.wait)
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
