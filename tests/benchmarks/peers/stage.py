"""Where one system is measured: fresh storage, its processes, what its tasks wrote down."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.benchmarks.peers.catalog import Peer
from tests.benchmarks.peers.process import ROOT, Child, PeerFailed
from tests.benchmarks.peers.servers import Pooler, Postgres, Redis
from tests.benchmarks.peers.tally import Tallies

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"

_LOOK_SECONDS = 0.02
_STALLED_SECONDS = 40.0


def python_of(peer: Peer) -> Path:
    """The interpreter of the environment that has the peer's packages."""
    return Path(sys.executable) if peer.in_project else PEERS_PYTHON


class Stage:
    """A system in a fresh database, during one visit."""

    def __init__(self, peer: Peer, environment: dict[str, str], directory: Path) -> None:
        self.peer = peer
        self._environment = environment
        self._directory = directory
        self._children: list[Child] = []
        self._workers: list[Child] = []
        self._rest = threading.Event()
        (directory / "tally").mkdir()
        self.tallies = Tallies(directory / "tally")

    def child(self) -> Child:
        """Start a process that has loaded nothing yet."""
        # Where Dramatiq's Prometheus middleware keeps its numbers; by default a place that all share.
        metrics = {name: str(self._directory / name) for name in ("dramatiq_prom_db", "dramatiq_prom_lock")}
        environment = self._environment | metrics | {"BENCH_TALLY": str(self._directory / "tally")}
        child = Child(python_of(self.peer), self.peer.module, environment, self._directory / "log")
        self._children.append(child)
        return child

    def end(self) -> None:
        """End all processes; together, since each takes a while."""
        with ExitStack() as ended:
            for child in self._children:
                ended.callback(child.end)
            for child in self._children:
                child.release()

    def workers(self, filled_with: int = 0) -> list[Child]:
        """Start the workers; they begin together, when all have loaded what they need.

        With ``filled_with`` each first sends its share into its own memory.
        """
        self._workers = [self.child() for _ in range(self.peer.processes)]
        for worker in self._workers:
            worker.tell("send", count=filled_with // self.peer.processes)
        for worker in self._workers:
            worker.answer("send")
        for worker in self._workers:
            worker.ask("work")
        return self._workers

    def check_log(self) -> None:
        """Refuse what was measured while exceptions were logged: it is the speed of writing tracebacks.

        Raises:
            PeerFailed: There are some.
        """
        log = self._directory / "log"
        if "Traceback (most recent call last)" in log.read_text(errors="replace"):
            raise PeerFailed("exceptions were logged", log)

    def wait_done(self, tasks: int, stalled_after: float = _STALLED_SECONDS) -> None:
        """Wait until that many tasks have ended since the beginning.

        Raises:
            PeerFailed: A worker died, or for so many seconds not one more task ended.
        """
        done, changed_at = self.tallies.done(), time.monotonic()
        while done < tasks:
            for worker in self._workers:
                worker.check()
            before, done = done, self.tallies.done()
            changed_at = time.monotonic() if done > before else changed_at
            if time.monotonic() > changed_at + stalled_after:
                what = f"{done} of {tasks} tasks were done, and no more within {stalled_after:.0f} s"
                raise PeerFailed(what, self._directory / "log")
            self._rest.wait(_LOOK_SECONDS)


class House:
    """The servers, and the databases on them."""

    def __init__(
        self,
        postgres: Postgres,
        redis: Redis | None,
        directory: Path,
        prefix: str = "bench",
        pooler: Pooler | None = None,
    ) -> None:
        self.postgres = postgres
        self._prefix = prefix
        self.redis = redis
        self.pooler = pooler
        self._directory = directory

    def prepare(self, peer: Peer) -> dict[str, str]:
        """Make the database that those of the visits are copies of; return the versions of what runs.

        Raises:
            PeerFailed: Its packages or its tables are not in order.
        """
        url = self.postgres.fresh(self._name(peer, "template")) if peer.needs_database else ""
        with self._stage(peer, url) as stage:
            child = stage.child()
            child.ask("set_up")
            return child.ask("versions", packages=peer.packages)

    @contextmanager
    def stage(self, peer: Peer) -> Iterator[Stage]:
        """Give one system fresh storage; end its processes when the block ends."""
        names = self._name(peer, "visit"), self._name(peer, "template")
        url = self.postgres.fresh(*names) if peer.needs_database else ""
        if peer.needs_pooler and self.pooler is not None:
            url = self.pooler.url(url)
        with self._stage(peer, url) as stage:
            yield stage

    def _name(self, peer: Peer, what: str) -> str:
        return f"{self._prefix}_{what}_{peer.name.replace('-', '_')}"

    @contextmanager
    def _stage(self, peer: Peer, url: str) -> Iterator[Stage]:
        environment = {"DATABASE_URL": url, "BENCH_THREADS": str(peer.threads), **peer.environment}
        if self.redis is not None:
            self.redis.flush()
            environment["REDIS_URL"] = self.redis.url
        with tempfile.TemporaryDirectory(dir=self._directory) as directory, ExitStack() as ended:
            stage = Stage(peer, environment, Path(directory))
            ended.callback(stage.end)
            yield stage
