"""What load balancers and orchestrators ask."""

from __future__ import annotations

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue

from api import schema
from api.auth import public
from api.extensions import app_settings
from pipeline.runtime import ask
from pipeline.store import status

blueprint = Blueprint("health", __name__)


@blueprint.get("/")
@public
def index() -> ResponseReturnValue:
    """Tell whoever opens the printed address what there is."""
    return {
        "name": "pipeline",
        "routes": sorted(
            f"{method} {rule.rule}"
            for rule in current_app.url_map.iter_rules()
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
            if rule.endpoint not in {"static", "health.index"}
        ),
    }


@blueprint.get("/healthz")
@public
def is_alive() -> ResponseReturnValue:
    """Answer as long as this process can; restarting it would not bring back a database."""
    return {"status": "alive"}


@blueprint.get("/readyz")
@public
def is_ready() -> ResponseReturnValue:
    """Answer 200 if requests can be served: the database answers, and its schema is not older than this code.

    Workers are counted, those that do not die all the time, but not asked for. Tasks wait safely in the database while
    there are none; taking the API away as well would turn a delay into an outage.
    """
    schema.check()
    workers = ask(status.count_ready_workers, seconds=app_settings().lease_seconds)
    return {"status": "ready", "workers": workers}
