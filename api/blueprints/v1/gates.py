"""Gates: what holds tasks back besides their turn."""

from __future__ import annotations

from flask import Response

from api import cursors
from api.answers import answer_one, answer_page
from api.endpoints import Endpoints
from api.problems import NOT_FOUND, UNCHANGED
from api.reading import read
from api.scopes import Scope, needs
from api.shapes.queues import GATE_SETTINGS, Counting, Gate, GateListing, GatePage, GatePath
from pipeline.errors import GateUnknown
from pipeline.store import gates

blueprint = Endpoints("gates", __name__)


@blueprint.get("", responses={200: GatePage})
@needs(Scope.READ)
def list_gates(query: GateListing) -> Response:
    """List, by their names, the gates that have a rule, that a task has passed, or at which one waits."""
    place = cursors.read("gates", query, query.cursor)
    rows = read(gates.gates, after=place[0] if place else None, limit=query.limit + 1, most=query.most)
    page, next_cursor = cursors.cut("gates", query, rows, lambda row: [row.gate])
    return answer_page([Gate.model_validate(row) for row in page], next_cursor)


@blueprint.get("/<path:gate>", responses={200: Gate, 304: UNCHANGED, 404: NOT_FOUND})
@needs(Scope.READ)
def show_gate(path: GatePath, query: Counting) -> Response:
    """Show one gate."""
    rows = read(gates.gates, gate=path.gate, limit=1, most=query.most)
    if not rows:
        raise GateUnknown(path.gate)
    return answer_gate(Gate.model_validate(rows[0]))


def answer_gate(gate: Gate) -> Response:
    """Answer with one gate."""
    return answer_one(gate, settings=GATE_SETTINGS)
