"""The worker's heart: tells the database at intervals that the worker lives, and learns whether it shall go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.logger import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.identity import Identity

log = get_logger(__name__)


class Heart:
    """Beats in the hub's thread and on its connection; a beat that fails is an error of the hub's cycle."""

    def __init__(self, broker: PostgresBroker, identity: Identity) -> None:
        self._broker = broker
        self._identity = identity
        self._next_beat = 0.0
        #: Set when somebody wants this worker to claim nothing more and to end.
        self.is_draining = False

    def has_begun(self) -> None:
        """Note that a session has begun, which counts as a beat."""
        self._next_beat = time.monotonic() + self._broker.settings.beat_seconds

    def beat_if_due(self, running: Callable[[], Iterable[TaskProxy]], queues: Callable[[], Iterable[str]]) -> None:
        """Tell that the worker lives, what runs in it, and what it consumes.

        Raises:
            LeaseLost: It was declared dead.
        """
        now = time.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + self._broker.settings.beat_seconds
        seconds = None
        if not self._broker.runner.is_shown:
            seconds = {proxy.id: now - (proxy.started_at or 0) for proxy in running()}
        if not self._identity.beat(seconds, queues()) and not self.is_draining:
            self.is_draining = True
            log.info("worker.draining", worker_id=self._identity.worker_id)
