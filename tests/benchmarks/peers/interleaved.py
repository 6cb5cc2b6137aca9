"""The rounds: each measurement visits the systems by turns, A B C A B C, and whoever fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from tests.benchmarks.peers.catalog import METRIC, Peer
from tests.benchmarks.peers.figures import Results
from tests.benchmarks.peers.process import PeerFailed
from tests.benchmarks.peers.servers import NO_POOLER, NO_REDIS
from tests.benchmarks.peers.stage import PEERS_PYTHON, House
from tests.benchmarks.peers.visits import VISIT, Scale, Values

NO_ENVIRONMENT = "there is no .venv-peers, which ./dev bench peers makes with the help of a package index"

Tell = Callable[[str], None]


def prepare(house: House, peers: Iterable[Peer], results: Results, tell: Tell) -> list[Peer]:
    """Make the tables of the systems that can run here and return these; note why the others cannot."""
    able = []
    for peer in peers:
        reason = _missing(house, peer)
        if reason:
            results.left_out[peer.name] = reason
            tell(f"{peer.name} is left out: {reason}")
            continue
        try:
            results.versions[peer.name] = house.prepare(peer)
            able.append(peer)
        except PeerFailed as failure:
            _note(results, f"{peer.name}: set-up", failure, tell)
    return able


def _missing(house: House, peer: Peer) -> str | None:
    if peer.needs_redis and house.redis is None:
        return NO_REDIS
    if peer.needs_pooler and house.pooler is None:
        return NO_POOLER
    return None if peer.in_project or PEERS_PYTHON.exists() else NO_ENVIRONMENT


def measure(house: House, visit: str, peers: Iterable[Peer], scale: Scale, results: Results, tell: Tell) -> None:
    """Visit each system in each round; one that failed is not tried again."""
    peers = list(peers)
    for number in range(1, scale.rounds + 1):
        for peer in peers:
            what, began = f"{peer.name}: {visit}", time.monotonic()
            if what in results.failures:
                continue
            try:
                with house.stage(peer) as stage:
                    values = VISIT[visit](stage, scale)
                    stage.check_log()
            except (PeerFailed, ValueError) as failure:
                _note(results, what, failure, tell)
                continue
            for metric, value in values.items():
                results.add(metric, peer.name, number, value)
            took = f"[{time.monotonic() - began:.1f} s]"
            tell(f"{visit} {number}/{scale.rounds}  {peer.name:20} {_values(values)}  {took}")


def _values(values: Values) -> str:
    return "  ".join(f"{name} {value:,.{METRIC[name].digits}f}" for name, value in values.items())


def _note(results: Results, what: str, failure: Exception, tell: Tell) -> None:
    results.failures[what] = str(failure)
    tell(f"{what} failed: {failure}")
