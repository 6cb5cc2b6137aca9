"""The Flask extension: the task queue in an application, ours or somebody else's.

::

    db = SQLAlchemy()
    pipeline = Pipeline(db=db, url_prefix="/tasks")

    def create_app():
        app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = …   # the database that DATABASE_URL names
        db.init_app(app)
        pipeline.init_app(app)
        return app

That gives the application

- our routes behind the prefix: ``/tasks/api/v1/…``, ``/tasks/livez``, ``/tasks/metrics``. Only they ask for a token
  (``api.auth``), limit bodies and answer errors with problems; what the application's own routes do stays its own.
- sends that belong to ``db.session`` in all of its views (``api.transactions``).
- the commands ``flask pipeline …``, which are those of ``pipeline …``.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RoutingException

from api import errors, schema, security, transactions
from api.announced import Announced
from api.blueprints import register_all
from api.endpoints import ROOT
from api.live.live import Live
from api.reading import read
from pipeline import get_broker
from pipeline.cli import main
from pipeline.settings import Settings
from pipeline.store import actors
from pipeline.store.audit import acting_from


class Pipeline:
    """The task queue in an application.

    Args:
        app: The application; or call :meth:`init_app` later.
        db: Its Flask-SQLAlchemy, on the database of the task queue. None: sends belong to no transaction.
        url_prefix: What our routes begin with.
        settings: Instead of those of the process's broker.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: Any = None,
        *,
        url_prefix: str = "/pipeline",
        settings: Settings | None = None,
    ) -> None:
        self.db = db
        self.url_prefix = url_prefix.rstrip("/")
        self._settings = settings
        if app is not None:
            self.init_app(app)

    @property
    def settings(self) -> Settings:
        """The settings of the process's broker, if no others were given."""
        return self._settings or get_broker().settings

    @cached_property
    def live(self) -> Live:
        """Lets clients watch; starts nothing before one does."""
        return Live(self.settings)

    @cached_property
    def announced(self) -> Announced:
        """Tells requests what workers have announced."""
        return Announced(lambda: read(actors.masks))

    def init_app(self, app: Flask) -> None:
        """Attach to an application. Opens no connection."""
        app.extensions["pipeline"] = self
        app.before_request(self._answer_unrouted)
        transactions.init_app(app)
        app.register_blueprint(_part(), url_prefix=self.url_prefix or None)
        app.cli.add_command(main, "pipeline")

    def _answer_unrouted(self) -> Response | None:
        """Answer what leads nowhere with a problem, if it begins as our routes do."""
        error = request.routing_exception
        if not isinstance(error, HTTPException) or isinstance(error, RoutingException):
            return None
        ours = self.url_prefix or ROOT
        is_ours = f"{request.path}/".startswith(f"{ours}/")
        return security.mark(errors.answer_http(error)) if is_ours else None


def _part() -> Blueprint:
    """Make the part of an application that is ours."""
    part = Blueprint("pipeline", __name__)
    errors.register_before_host(part)
    part.before_request(schema.refuse_outdated)  # first: in an outdated one there may be no tokens
    security.register(part)
    part.before_request(_act_as_api)
    part.teardown_request(_stop_acting)
    register_all(part)
    return part


def _act_as_api() -> None:
    """Let what is commanded in this request be noted as coming from here."""
    g.pipeline_acting = acting_from("api")
    g.pipeline_acting.__enter__()


def _stop_acting(_error: BaseException | None) -> None:
    acting = g.pop("pipeline_acting", None)
    if acting is not None:
        acting.__exit__(None, None, None)
