"""``AsyncTask``: a task as a SQLAlchemy object, in any session on the database of the queue.

``session.get(AsyncTask, task_id)``, ``db.session.get(AsyncTask, task_id)``, and queries by the columns of the view
``task_status`` that it reads (see the SQL reference for which of them have an index). It is the successor of the status
table of the same name, and has its names: ``name``, ``status``, ``error_message``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Integer, Text, Uuid, event
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column, synonym
from sqlalchemy.types import TypeDecorator

from pipeline.errors import ReadOnly
from pipeline.settings import get_settings
from pipeline.states import TaskState
from pipeline.store.tasks import as_task_id


class _TaskId(TypeDecorator[str]):
    """The text of a UUID. What cannot be one is the id of no task, not an error."""

    impl = Uuid(as_uuid=False)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else as_task_id(str(value))


class _State(TypeDecorator[TaskState]):
    impl = Text
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> TaskState | None:
        return None if value is None else TaskState(value)


class _Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), int: Integer, str: Text}  # noqa: RUF012 - SQLAlchemy's way


class AsyncTask(_Base):
    """One row of the view ``task_status``. Nothing is ever written through it: tasks change by commands.

    ``progress`` is percent. ``args``, ``kwargs`` and ``result`` are read from the database when they are asked for.
    """

    __tablename__ = "task_status"
    __table_args__ = {"schema": get_settings().schema_name}  # noqa: RUF012 - SQLAlchemy's way

    task_id: Mapped[str] = mapped_column(_TaskId, primary_key=True)
    actor: Mapped[str]
    queue: Mapped[str]
    state: Mapped[TaskState] = mapped_column(_State)
    attempt: Mapped[int]
    progress: Mapped[int]
    note: Mapped[str]
    step: Mapped[str | None]
    done: Mapped[int | None] = mapped_column(BigInteger)
    total: Mapped[int | None] = mapped_column(BigInteger)
    progress_at: Mapped[datetime | None]
    expected_at: Mapped[datetime | None]
    result: Mapped[Any] = deferred(mapped_column(JSON))
    error: Mapped[str | None]
    created_at: Mapped[datetime]
    eta: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    worker_id: Mapped[int | None] = mapped_column(BigInteger)
    thread: Mapped[int | None]
    last_seen_at: Mapped[datetime | None]
    priority: Mapped[int]
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    entity: Mapped[str | None]
    tenant: Mapped[str | None]
    correlation_id: Mapped[str | None]
    parent_id: Mapped[str | None] = mapped_column(_TaskId)
    args: Mapped[Any] = deferred(mapped_column(JSON))
    kwargs: Mapped[Any] = deferred(mapped_column(JSON))
    id: Mapped[int] = mapped_column(BigInteger)
    waits_for: Mapped[str | None]

    name = synonym("actor")
    status = synonym("state")
    error_message = synonym("error")

    def __repr__(self) -> str:
        """Show which task it is, and no arguments."""
        return f"<AsyncTask {self.task_id} {self.actor} {self.state.value}>"


def _refuse(_mapper: Any, _connection: Any, target: AsyncTask) -> NoReturn:
    raise ReadOnly(type(target).__name__)


for _change in ("before_insert", "before_update", "before_delete"):
    event.listen(AsyncTask, _change, _refuse)
