"""What Prometheus asks."""

from __future__ import annotations

from flask import Response

from api.auth import public_on_loopback
from api.endpoints import Routes
from pipeline import get_broker
from pipeline.integrations import prometheus
from pipeline.integrations.exposition import CONTENT_TYPE

blueprint = Routes("metrics", __name__)


@blueprint.get("/metrics")
@public_on_loopback
def show() -> Response:
    """Tell how many tasks wait and run, how runs ended and how the database fares; 503 if it is away."""
    broker = get_broker()
    return Response(prometheus.scrape(broker.pool, broker.url, broker.sql), content_type=CONTENT_TYPE)
