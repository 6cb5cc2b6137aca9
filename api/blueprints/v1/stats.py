"""Figures: what waits and runs, and how runs ended."""

from __future__ import annotations

from datetime import datetime

from flask import Response

from api import cursors
from api.answers import answer_one, answer_page
from api.endpoints import Endpoints
from api.problems import UNCHANGED
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.actors import ActorStatistics, StatisticsListing, StatisticsPage
from api.shapes.queues import Counting
from api.shapes.stats import (
    Failures,
    FailuresListing,
    FailuresPage,
    RunFigures,
    Summary,
    TaskFigures,
    Throughput,
    ThroughputListing,
    ThroughputPage,
    WorkerFigures,
)
from pipeline.store import actors, metrics, queues, stats
from pipeline.store.stats import Spans

blueprint = Endpoints("stats", __name__)

_FOR_EVER = 10**10


@blueprint.get("", responses={200: Summary, 304: UNCHANGED})
@needs(Scope.READ)
def show_summary() -> Response:
    """Show all at a glance: what waits and runs, who works, and how runs ended within the last hour."""
    depths = read(queues.depths, most=Counting().most)
    rows = read(stats.throughput, Spans(_FOR_EVER), limit=1)
    tasks = TaskFigures(
        queued=sum(each.queued for each in depths),
        scheduled=sum(each.scheduled for each in depths),
        running=sum(each.running for each in depths),
        is_exact=all(each.is_exact for each in depths),
        oldest_due=min((each.oldest_due for each in depths if each.oldest_due), default=None),
    )
    workers = WorkerFigures.model_validate(read(metrics.fleet))
    last_hour = RunFigures.model_validate(rows[0]) if rows else RunFigures()
    return answer_one(Summary(tasks=tasks, workers=workers, last_hour=last_hour))


@blueprint.get("/throughput", responses={200: ThroughputPage})
@needs(Scope.READ)
def list_throughput(query: ThroughputListing) -> Response:
    """List how many runs ended, and how, within spans of time, the oldest first."""
    place = cursors.read("throughput", query, query.cursor)
    spans = Spans(
        query.seconds,
        by_queue="queue" in query.by,
        by_actor="actor" in query.by,
        since=query.since,
        until=query.until,
        queue=query.queue,
        actor=query.actor,
    )
    after = (datetime.fromisoformat(place[0]), place[1], place[2]) if place else None
    rows = read(stats.throughput, spans, after=after, limit=query.limit + 1)
    page, next_cursor = cursors.cut("throughput", query, rows, lambda row: [row.span.isoformat(), row.queue, row.actor])
    return answer_page([_throughput(row) for row in page], next_cursor)


def _throughput(row: stats.Throughput) -> Throughput:
    figures = RunFigures.model_validate(row).model_dump()
    return Throughput(span=row.span, queue=row.queue or None, actor=row.actor or None, **figures)


@blueprint.get("/actors", responses={200: StatisticsPage})
@needs(Scope.READ)
def list_statistics(query: StatisticsListing) -> Response:
    """List, for each actor, how its runs of the last hour or day ended, how long they waited and how long they took."""
    place = cursors.read("statistics", query, query.cursor)
    names, after = [query.actor] if query.actor else None, (place[0], place[1]) if place else None
    rows = read(actors.stats, query.period, actors=names, queue=query.queue, after=after, limit=query.limit + 1)
    page, next_cursor = cursors.cut("statistics", query, rows, lambda row: [row.actor, row.queue])
    return answer_page([ActorStatistics.model_validate(row) for row in page], next_cursor)


@blueprint.get("/failures", responses={200: FailuresPage})
@needs(Scope.READ)
def list_failures(query: FailuresListing) -> Response:
    """List what has failed lately and with which errors: of the 1,000 newest tasks of which a run failed for good."""
    place = cursors.read("failures", query, query.cursor)
    after = (place[0], place[1], place[2]) if place else None
    rows = read(stats.failures, queue=query.queue, actor=query.actor, after=after, limit=query.limit + 1)
    page, next_cursor = cursors.cut("failures", query, rows, lambda row: [row.queue, row.actor, row.error_type])
    return answer_page([Failures.model_validate(row) for row in page], next_cursor)
