"""What clients that watch may ask for, and how it is told in the document."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.live.frames import MEDIA_TYPE
from api.live.waiting import LONGEST_WAIT_SECONDS
from api.problems import described
from api.shapes.lists import DIGITS, Query, Text
from api.shapes.tasks import Selection

#: Answers by their status, as endpoints take them.
Answers = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]


class Following(Query):
    """From where on a client follows."""

    last_event_id: Text | None = Field(
        default=None,
        description="The id of the last event that was seen, where the header `Last-Event-ID` cannot be sent.",
    )


class Waiting(Selection):
    """For how long an answer may be waited for."""

    wait: Annotated[int, Field(ge=0, le=LONGEST_WAIT_SECONDS), DIGITS] = Field(
        default=0,
        description="Answer as soon as the answer is not the one whose `ETag` is in `If-None-Match` or `since` "
        "(without them: not what it is now) or the task has ended; or after so many seconds.",
    )
    since: Text | None = Field(
        default=None, description="An `ETag`, as in `If-None-Match`, but never answered with 304."
    )


def told(what: str) -> Answers:
    """Describe a stream as an answer in the document."""
    full = "As many clients watch as may, or the database does not answer; `Retry-After` says when to come back."
    return {
        HTTPStatus.OK: {"description": what, "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
        HTTPStatus.SERVICE_UNAVAILABLE: described(503) | {"description": full},
    }


EVERYTHING = told(
    "Server-sent events: `snapshot` (queues and workers as they are), `changed` (what has changed of that, and `tasks`,"
    " and whether there are `more`), `resync` (look at everything anew; a snapshot follows), `outage` (nobody knows "
    "what happens now; a resync follows) and `refused` (the token or session has ended)."
)
ONE_TASK = told(
    "Server-sent events: `task` (as it is), `outage` and, last, `end` (the task has ended, or is there no more) or "
    "`refused` (the token or session has ended)."
)
ENDED = {"description": "The task has ended as the client has seen it, and nothing more will be told."}
