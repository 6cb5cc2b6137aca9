"""Actors: which there are, what they are called with, and how they fare."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from flask import Response

from api import cursors
from api.answers import answer_one, answer_page
from api.endpoints import Endpoints
from api.problems import NOT_FOUND, UNCHANGED
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.actors import Actor, ActorListing, ActorPage, ActorPath, ActorStatistics, Parameter, Period
from api.visibility import MASK, sight
from pipeline import ActorUnknown, get_broker
from pipeline.broker.signatures import description_of, parameters_of
from pipeline.store import actors
from pipeline.store.actors import ActorRow, ActorStats

blueprint = Endpoints("actors", __name__)


@blueprint.get("", responses={200: ActorPage})
@needs(Scope.READ)
def list_actors(query: ActorListing) -> Response:
    """List the actors that workers have announced, by their names."""
    place = cursors.read("actors", query, query.cursor)
    rows = read(actors.actors, after=place[0] if place else None, limit=query.limit + 1)
    page, next_cursor = cursors.cut("actors", query, rows, lambda row: [row.actor])
    statistics = read(actors.stats, query.period, actors=[row.actor for row in page]) if query.include else []
    shown = set(Actor.model_fields) - {"statistics"} | set(query.include)
    return answer_page([_actor(row, statistics) for row in page], next_cursor, shown)


@blueprint.get("/<actor>", responses={200: Actor, 304: UNCHANGED, 404: NOT_FOUND})
@needs(Scope.READ)
def show_actor(path: ActorPath, query: Period) -> Response:
    """Show one actor, with its statistics."""
    rows = read(actors.actors, actor=path.actor, limit=1)
    if not rows:
        raise ActorUnknown(path.actor)
    return answer_one(_actor(rows[0], read(actors.stats, query.period, actors=[path.actor])))


def _actor(row: ActorRow, statistics: Sequence[ActorStats]) -> Actor:
    here = get_broker().actors.get(row.actor)
    seen = sight()
    told = row.parameters if here is None else parameters_of(here.fn)
    masked = seen.masked_in(row.actor)
    return Actor(
        actor=row.actor,
        queue=row.queue,
        priority=row.priority,
        seen_at=row.seen_at,
        description=row.description if here is None else description_of(here.fn),
        parameters=None if told is None else [_parameter(each, masked) for each in told],
        masked=sorted(seen.masked_by(row.actor)),
        statistics=[ActorStatistics.model_validate(each) for each in statistics if each.actor == row.actor],
    )


def _parameter(told: Any, masked: Collection[str]) -> Parameter:
    parameter = Parameter.model_validate(told)
    if parameter.default is None or parameter.name.lower() not in masked:
        return parameter
    return parameter.model_copy(update={"default": MASK})
