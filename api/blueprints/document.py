"""The OpenAPI document, for programs and for people."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from flask import Response, render_template, request, url_for

from api import document
from api.answers import answer_json
from api.document_page import groups_of, shown
from api.endpoints import ROOT, Routes
from api.extensions import attached
from api.scopes import Scope, needs

_TEMPLATES = Path(__file__).parents[1] / "templates"
#: The page is text and a stylesheet of ours; it runs nothing and loads nothing from elsewhere.
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

blueprint = Routes("document", __name__, template_folder=str(_TEMPLATES))


@blueprint.get("/openapi.json")
@blueprint.get(f"{ROOT}/openapi.json")
@needs(Scope.READ)
def show() -> Response:
    """Show the document of this REST API, with the place where it is served."""
    return answer_json(_placed(_place()))


@blueprint.get(f"{ROOT}/docs")
@needs(Scope.READ)
def show_page() -> Response:
    """Show the document to people."""
    content = _placed(_place())
    page = render_template(
        "pipeline/document.html",
        document=content,
        groups=groups_of(content),
        shown=shown,
        source=url_for("pipeline.document.show"),
        stylesheet=url_for("pipeline.document.show_stylesheet"),
    )
    return Response(page, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})


@blueprint.get(f"{ROOT}/docs.css")
@needs(Scope.READ)
def show_stylesheet() -> Response:
    """Give the page its looks."""
    return Response((_TEMPLATES / "pipeline/document.css").read_bytes(), mimetype="text/css")


def _place() -> str:
    return f"{request.script_root}{attached().url_prefix}" or "/"


@cache
def _stored() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(document.stored())
    return content


def _placed(place: str) -> dict[str, Any]:
    return {**_stored(), "servers": [{"url": place}]}
