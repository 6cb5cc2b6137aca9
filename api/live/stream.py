"""Carry a client's queue to its socket."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from flask import Response, request

from api import problems
from api.extensions import attached
from api.live.client import Client
from api.live.frames import HEARTBEAT, MEDIA_TYPE, opening, pieces
from api.live.live import Live
from api.live.subscription import Subscription

View = TypeVar("View", bound=Callable[..., Any])

#: How often something is written while nothing happens.
_HEARTBEAT_SECONDS = 12.0
#: How often we look whether the client is there, and whether the process is to end.
_LOOK_SECONDS = 1.0
#: A client that takes nothing for so long holds a thread for nothing.
_STUCK_SECONDS = 30.0
#: So long a stream is kept. Clients connect again by themselves, and are asked again whether they may.
_LONGEST_SECONDS = 900.0
#: How long clients wait before they connect again, in milliseconds; not all of them the same.
_RETRY_MS = (2000, 4000)

_HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would keep events until it has many
}


def streams(view: View) -> View:
    """Say that a view answers with a stream. Stands right above the function."""
    view.media_types = (MEDIA_TYPE, problems.MEDIA_TYPE)  # type: ignore[attr-defined]
    return view


def stream(subscription: Subscription) -> Response:
    """Answer with what a client is told, as it happens.

    No database session is held meanwhile, nor the context of the request.

    Raises:
        TooManyStreams: As many watch as may.
    """
    live = attached().live
    client = Client(request.environ)
    live.join(subscription)
    response = Response(_Stream(live, subscription, client).frames(), mimetype=MEDIA_TYPE, headers=_HEADERS)
    # Not only in the generator: one that was never begun does not end either.
    response.call_on_close(partial(live.leave, subscription))
    return response


class _Stream:
    """One client's answer while it is written."""

    def __init__(self, live: Live, subscription: Subscription, client: Client) -> None:
        self._live = live
        self._subscription = subscription
        self._client = client
        self._until = time.monotonic() + _LONGEST_SECONDS * random.uniform(0.9, 1.0)  # noqa: S311
        self._wrote_at = 0.0

    def frames(self) -> Iterator[bytes]:
        """Give what is to be written, piece by piece, as soon as the client takes it."""
        try:
            self._client.keep_little()
            yield from self._write(opening(random.randint(*_RETRY_MS)))  # noqa: S311
            yield from self._events()
        finally:
            self._live.leave(self._subscription)

    def _events(self) -> Iterator[bytes]:
        while not self._is_over:
            event = self._subscription.take(_LOOK_SECONDS)
            if event is not None:
                yield from self._write(event.frame)
                if event.is_last:
                    return
            elif time.monotonic() - self._wrote_at >= _HEARTBEAT_SECONDS:
                yield from self._write(HEARTBEAT)

    def _write(self, text: bytes) -> Iterator[bytes]:
        for piece in pieces(text):
            if not self._is_ready():
                self._until = 0.0
                return
            yield piece
        self._wrote_at = time.monotonic()

    def _is_ready(self) -> bool:
        """Wait until the client takes something: to write before that would block, for ever if need be."""
        patience = time.monotonic() + _STUCK_SECONDS
        while not self._client.is_ready(_LOOK_SECONDS):
            if self._is_over or time.monotonic() > patience:
                return False
        return True

    @property
    def _is_over(self) -> bool:
        return self._live.is_closing or self._client.has_left or time.monotonic() > self._until
