"""What load balancers and orchestrators ask."""

from __future__ import annotations

from flask import Response

from api import schema
from api.answers import answer_json
from api.auth import public
from api.endpoints import Routes
from api.extensions import app_settings
from api.reading import read
from pipeline.store import status

blueprint = Routes("health", __name__)


@blueprint.get("/healthz")
@blueprint.get("/livez")
@public
def is_alive() -> Response:
    """Answer as long as this process can; restarting it would not bring back a database."""
    return answer_json({"status": "alive"})


@blueprint.get("/readyz")
@public
def is_ready() -> Response:
    """Answer 200 if requests can be served: the database answers, and its schema is not older than this code.

    Workers are counted, those that do not die all the time, but not asked for. Tasks wait safely in the database while
    there are none; taking the API away as well would turn a delay into an outage.
    """
    schema.check()
    workers = read(status.count_ready_workers, seconds=app_settings().lease_seconds)
    return answer_json({"status": "ready", "workers": workers})
