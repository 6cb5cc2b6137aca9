"""The printed address."""

from __future__ import annotations

from flask import Blueprint, current_app
from flask.typing import ResponseReturnValue

from api.auth import public

blueprint = Blueprint("index", __name__)


@blueprint.get("/")
@public
def show() -> ResponseReturnValue:
    """Tell whoever opens the printed address what there is."""
    return {
        "name": "pipeline",
        "routes": sorted(
            f"{method} {rule.rule}"
            for rule in current_app.url_map.iter_rules()
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
            if rule.endpoint not in {"static", "index.show"}
        ),
    }
