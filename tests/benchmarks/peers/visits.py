"""The measurements: one function per kind of visit, which gives the values of its metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.peers.figures import WARM_UP, drain_rate, quantile
from tests.benchmarks.peers.process import Child
from tests.benchmarks.peers.stage import Stage

Values = dict[str, float]


@dataclass(frozen=True)
class Scale:
    """How much is measured. Seconds are those of one measurement in one round, by the pace of the catalog."""

    rounds: int = 3
    send_seconds: float = 3
    bulk_seconds: float = 4
    drain_seconds: float = 5
    pulses: int = 2_000
    work_seconds: float = 4

    def in_bulk(self, pace: int) -> int:
        """How many tasks are sent in bulk."""
        return max(int(pace * self.bulk_seconds), 100)

    def drained(self, pace: int) -> int:
        """How many tasks are prepared for a drain."""
        return max(int(pace * self.drain_seconds), 12 * WARM_UP)


QUICK = Scale(rounds=1, send_seconds=0.4, bulk_seconds=0.3, drain_seconds=0.5, pulses=60, work_seconds=0.5)


def sends(stage: Stage, scale: Scale) -> Values:
    """One producer sends one by one for a while, then in bulk; nobody works."""
    producer = stage.child()
    values = {"single": producer.ask("send_for", seconds=scale.send_seconds)}
    if stage.peer.bulk:
        producer.ask("send_many", count=100)
        values["bulk"] = producer.ask("send_many", count=scale.in_bulk(stage.peer.pace))
    return values


def drain(stage: Stage, scale: Scale) -> Values:
    """Workers empty a queue that was filled before; the clock starts when all are warm."""
    return {"drain": _drain(stage, scale)}


def _drain(stage: Stage, scale: Scale) -> float:
    tasks = scale.drained(stage.peer.pace)
    if stage.peer.in_memory:
        stage.workers(filled_with=tasks)
    else:
        producer = stage.child()
        producer.ask("send_many" if stage.peer.bulk else "send", count=tasks)
        producer.end()
        stage.workers()
    stage.wait_done(tasks)
    return drain_rate(stage.tallies.ends())


def live(stage: Stage, scale: Scale) -> Values:
    """Idle workers, and a task every five milliseconds; then a producer and the workers as fast as they can together."""
    producer = stage.child()
    if not stage.peer.processes:
        producer.ask("pulse", count=WARM_UP)
        return _latency(producer.ask("pulse", count=scale.pulses))
    stage.workers()
    done = _warm_up(stage, producer)
    since = time.monotonic()
    producer.ask("pulse", count=scale.pulses)
    stage.wait_done(done + scale.pulses)
    values = _latency(stage.tallies.waits(since))
    _, started = producer.ask("send_while", seconds=scale.work_seconds)
    over = started + scale.work_seconds
    ended = sum(started <= end <= over for process in stage.tallies.ends() for end in process)
    return values | {"send_work": ended / scale.work_seconds}


def _warm_up(stage: Stage, producer: Child) -> int:
    """Send tasks until each worker process has run some; one that is slow to start would show as latency."""
    done = 0
    for _ in range(40):
        producer.ask("pulse", count=WARM_UP)
        stage.wait_done(done := done + WARM_UP)
        if sum(len(process) >= 2 for process in stage.tallies.ends()) >= stage.peer.processes:
            break
    return done


def _latency(waits: list[float]) -> Values:
    return {name: 1_000 * quantile(waits, share) for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}


def committed(stage: Stage, scale: Scale) -> Values:
    """Business rows written and committed by some processes and threads: by tasks of ours, or without any queue."""
    if stage.peer.bulk:
        return {"committed": _drain(stage, scale)}
    producers = [stage.child() for _ in range(stage.peer.processes)]
    for producer in producers:
        producer.ask("send", count=1)
    for producer in producers:
        producer.tell("send_in_threads", seconds=scale.drain_seconds, threads=stage.peer.threads)
    threads = [thread for producer in producers for thread in producer.answer("send_in_threads")]
    # Each thread's own rate: they need not begin at the same moment.
    return {"committed": sum(count for count, _ in threads) / scale.drain_seconds}


VISIT: dict[str, Callable[[Stage, Scale], Values]] = {
    "sends": sends,
    "drain": drain,
    "live": live,
    "committed": committed,
}
