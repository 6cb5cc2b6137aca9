"""What operators have done."""

from __future__ import annotations

from flask import Response

from api import cursors
from api.answers import answer_page
from api.endpoints import Endpoints
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.audit import AuditListing, AuditPage, Command
from pipeline.store import audit

blueprint = Endpoints("audit", __name__)


@blueprint.get("", responses={200: AuditPage})
@needs(Scope.READ)
def list_commands(query: AuditListing) -> Response:
    """List what operators have done, the newest first: who, when, from where, why, and what it changed."""
    place = cursors.read("audit", query, query.cursor)
    rows = read(audit.newest, query.filters, before=place[0] if place else None, limit=query.limit + 1)
    page, next_cursor = cursors.cut("audit", query, rows, lambda row: [row.audit_id])
    return answer_page([Command.model_validate(row) for row in page], next_cursor)
