"""What happens, as it does."""

from __future__ import annotations

from flask import Response, request

from api.auth import caller
from api.endpoints import Endpoints
from api.live.changes import Position
from api.live.stream import stream, streams
from api.live.subscription import Follower
from api.scopes import Scope, needs
from api.shapes.live import EVERYTHING, Following
from api.visibility import sight

blueprint = Endpoints("events", __name__)


@blueprint.get("", responses=EVERYTHING)
@needs(Scope.READ)
@streams
def follow_events(query: Following) -> Response:
    """Follow what waits, runs and ends: in sum, and the tasks that change, up to a bound."""
    seen = request.headers.get("Last-Event-ID") or query.last_event_id
    position = Position.parse(seen) if seen else None
    lost = "unknown id" if seen and position is None else ""
    return stream(Follower(position, lost, sees_payloads=sight().payloads, credential=caller().credential))
