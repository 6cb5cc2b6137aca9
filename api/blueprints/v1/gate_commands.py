"""Commands on gates. They hold from the next claim on; what is parked there follows within two seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from flask import Response

from api.acting import act, by, check_seen
from api.blueprints.v1.gates import answer_gate
from api.endpoints import Endpoints
from api.problems import Responses, problems
from api.scopes import Scope, needs
from api.shapes.commands import ChangeGate, Pause, Reason
from api.shapes.queues import Counting, Gate, GatePath
from pipeline.commands import gates as commands
from pipeline.store import gates
from pipeline.store.gates import GateRow

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

blueprint = Endpoints("gates", __name__)

_CHANGED: Responses = {200: Gate, **problems(404, 412, 415, 422)}


@blueprint.post("/<path:gate>/pause", responses=_CHANGED)
@needs(Scope.OPERATE)
def pause_gate(path: GatePath, body: Pause) -> Response:
    """Let no task of an actor, a tenant or a key begin, for a while or until the gate is resumed."""
    return _change(path, partial(commands.pause_gate, gate=path.gate, by=by(body), resume_after=body.resume_after))


@blueprint.post("/<path:gate>/resume", responses=_CHANGED)
@needs(Scope.OPERATE)
def resume_gate(path: GatePath, body: Reason) -> Response:
    """Let tasks pass a gate again. One that is not paused stays as it is."""
    return _change(path, partial(commands.resume_gate, gate=path.gate, by=by(body)))


@blueprint.patch("/<path:gate>", responses=_CHANGED)
@needs(Scope.OPERATE)
def change_gate(path: GatePath, body: ChangeGate) -> Response:
    """Change how many tasks of an actor or a key may run at a time. A tenant's gate can only be paused."""
    return _change(path, partial(commands.limit_gate, gate=path.gate, max_running=body.max_running, by=by(body)))


def _change(path: GatePath, command: Callable[[Mapping[str, str], Cursor], None]) -> Response:
    """Change a gate, if it is as the client has seen it, and answer with what it is then."""

    def deed(sql: Mapping[str, str], cursor: Cursor) -> Gate:
        check_seen(partial(_seen, sql, cursor, path.gate))
        command(sql, cursor)
        return _read(sql, cursor, path.gate)

    return answer_gate(act(deed))


def _seen(sql: Mapping[str, str], cursor: Cursor, gate: str) -> Response:
    gates.hold(sql, cursor, gate)
    return answer_gate(_read(sql, cursor, gate))


def _read(sql: Mapping[str, str], cursor: Cursor, gate: str) -> Gate:
    """Read a gate; one of which nothing is known holds nothing back."""
    rows = gates.gates(sql, cursor, gate=gate, limit=1, most=Counting().most)
    return Gate.model_validate(rows[0] if rows else GateRow(gate, False, None, 0, 0, None, None, None))
