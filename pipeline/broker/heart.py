"""The worker's heart: tells that the worker lives and what runs in it, and learns whether it shall go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pipeline.broker import running
from pipeline.logger import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pipeline.broker.broker import PostgresBroker
    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.identity import Identity
    from pipeline.broker.running import PlacedRun
    from pipeline.broker.thread_watch import ThreadWatch

    Begun = Callable[[], Iterable[TaskProxy]]

log = get_logger(__name__)


class Heart:
    """Beats in the hub's thread and on its connection; a beat that fails is an error of the hub's cycle.

    Where a master tells what runs, which sees it also while the process cannot say anything, the heart does not.
    """

    def __init__(self, broker: PostgresBroker, identity: Identity, threads: ThreadWatch) -> None:
        self._broker = broker
        self._identity = identity
        self._threads = threads
        self._next_beat = 0.0
        #: The runs that were told last.
        self._told: frozenset[tuple[int, int]] = frozenset()
        #: Set when somebody wants this worker to claim nothing more and to end.
        self.is_draining = False

    def has_begun(self) -> None:
        """Note that a session has begun, which counts as a beat; if as a new worker, nothing was told of it."""
        self._next_beat = time.monotonic() + self._broker.settings.beat_seconds
        self._told = frozenset()

    def attend(self, begun: Begun, queues: Callable[[], Iterable[str]], *, is_tick: bool) -> None:
        """Beat, if it is time; else tell once a second what runs, if that has changed.

        Raises:
            LeaseLost: The worker was declared dead.
        """
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self._broker.settings.beat_seconds
            self._beat(self._lasting(begun, now), queues(), now)
        elif is_tick and not self._broker.runner.is_shown:
            self._tell_news(self._lasting(begun, now), now)

    def _lasting(self, begun: Begun, now: float) -> list[PlacedRun]:
        return running.lasting(self._threads.placed(begun()), now)

    def _beat(self, runs: list[PlacedRun], queues: Iterable[str], now: float) -> None:
        told = None if self._broker.runner.is_shown else running.as_told(runs, now)
        may_go_on = self._identity.beat(told, queues)
        self._told = running.identities(runs)
        if not may_go_on and not self.is_draining:
            self.is_draining = True
            log.info("worker.draining", worker_id=self._identity.worker_id)

    def _tell_news(self, runs: list[PlacedRun], now: float) -> None:
        identities = running.identities(runs)
        if identities != self._told:
            self._identity.tell_running(running.as_told(runs, now))
            self._told = identities
