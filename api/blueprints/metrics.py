"""What Prometheus asks."""

from __future__ import annotations

from flask import Blueprint
from flask.typing import ResponseReturnValue

from api.auth import public_on_loopback
from pipeline import get_broker
from pipeline.integrations import prometheus
from pipeline.integrations.exposition import CONTENT_TYPE

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@public_on_loopback
def show() -> ResponseReturnValue:
    """Tell how many tasks wait and run, how runs ended and how the database fares; 503 if it is away."""
    broker = get_broker()
    return prometheus.scrape(broker.pool, broker.url, broker.sql), {"Content-Type": CONTENT_TYPE}
