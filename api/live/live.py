"""The live views of one application: who watches, and how many may."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import ServiceUnavailable

from api.live.listener import Listener
from api.live.subscription import Subscription

if TYPE_CHECKING:
    from pipeline.settings import Settings

#: When to ask again while too many watch; until then clients may look now and then.
_RETRY_AFTER_SECONDS = 5
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class TooManyStreams(ServiceUnavailable):
    """As many clients watch through this process as may."""

    kind = "too-many-streams"

    def __init__(self, most: int) -> None:
        told = f"{most} clients watch through this process already; try again, and ask now and then meanwhile"
        super().__init__(told, retry_after=_RETRY_AFTER_SECONDS)


class Live:
    """Lets clients watch, each for as long as it holds one of the threads of the web server."""

    def __init__(self, settings: Settings) -> None:
        self.most = settings.most_streams
        self._listener = Listener(settings)
        self._watching: set[Subscription] = set()
        self._lock = threading.Lock()
        #: All are to end, since the process does.
        self.is_closing = False

    def join(self, subscription: Subscription) -> None:
        """Let one more client watch, until it leaves.

        Raises:
            TooManyStreams: Half of the threads are to be left for everything else.
        """
        with self._lock:
            if len(self._watching) >= self.most or self.is_closing:
                raise TooManyStreams(self.most)
            self._watching.add(subscription)
        self._listener.add(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Let a client watch no more; once is enough."""
        self._listener.remove(subscription)
        with self._lock:
            self._watching.discard(subscription)

    @contextmanager
    def joined(self, subscription: Subscription) -> Iterator[None]:
        """Let a client watch for the length of a block."""
        self.join(subscription)
        try:
            yield
        finally:
            self.leave(subscription)

    def close(self) -> None:
        """Let all streams end within a second. Takes no lock, for it is called from a signal's interruption."""
        self.is_closing = True
        self._listener.close()


def close_when_stopped(live: Live) -> None:
    """End the streams as soon as the process is asked to stop: a server waits for requests that are under way.

    Does nothing outside of the main thread, in which alone signals can be caught.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _STOPS:
            _precede(number, live)


def _precede(number: signal.Signals, live: Live) -> None:
    """Close before whatever happens at a signal now."""
    before: Any = signal.getsignal(number)

    def close(received: int, where: Any) -> None:
        live.close()
        if callable(before):
            before(received, where)
        elif before is signal.SIG_DFL:
            signal.signal(received, signal.SIG_DFL)
            os.kill(os.getpid(), received)

    if before is not None:  # or it was not set from Python, and could not be called
        signal.signal(number, close)
        signal.siginterrupt(number, False)
