"""Does a backlog cost anything: ``./dev bench growth``.

Claims and sends are timed by turns in databases that differ in their rows only, a few calls here and a few there, so that
whatever the machine does it does to all of them. Then real workers drain beside the rows that must not matter.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from tests.benchmarks import measure, paired
from tests.benchmarks.exchanger import Exchanger
from tests.benchmarks.measure import Side
from tests.benchmarks.paired import Ratio, Report, tell
from tests.benchmarks.peers.figures import Results, quantile

FEW, WAITING, DELAYED, PAUSED = "few", "waiting", "delayed", "paused"
#: What waits on every side, so that there is always something to claim.
_FEW = 1_000
#: Calls on one side before it is another's turn.
_BLOCK = 20
_WARM_UP = 10


@dataclass(frozen=True)
class Scale:
    """How much is measured: cycles of each size of batch, in each round and on each side."""

    rows: int = 10_000_000
    rounds: int = 6
    cycles: tuple[tuple[int, int], ...] = ((1, 1_000), (8, 1_000), (256, 400))
    drained: int = 60_000


QUICK = Scale(rows=50_000, rounds=1, cycles=((1, 100), (8, 100), (256, 40)), drained=4_000)


@click.command()
@click.option("--rows", type=int, help="Waiting, delayed and paused rows (10 million; quick: 50 thousand).")
@click.option("--rounds", type=int, help="Rounds of each measurement (6; quick: 1).")
@click.option("--quick", is_flag=True, help="Show that everything runs; the figures say little.")
@paired.options
def main(
    *,
    rows: int | None,
    rounds: int | None,
    quick: bool,
    directory: Path,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Time claims, sends and drains beside a large backlog, and compare with the same beside a small one."""
    scale = QUICK if quick else Scale()
    scale = Scale(rows or scale.rows, rounds or scale.rounds, scale.cycles, scale.drained)
    results = Results()
    with paired.home(directory) as home, paired.server(home / "postgres") as server, ExitStack() as stack:
        about = paired.about(server.version, rows=f"{scale.rows:,}", rounds=scale.rounds)
        tell(", ".join(f"{name} {value}" for name, value in about.items()))
        sides = {name: Side("ours", server.url, name) for name in (FEW, WAITING, DELAYED, PAUSED)}
        for name, side in sides.items():
            stack.enter_context(side.database())
            prepare(side, name, scale.rows)
        time_calls(sides, scale, results)
        del sides[WAITING]  # it takes long to drain, and nothing is asked of that
        time_drains(sides, scale, results)
    Report("Growth", about, results, RATIOS, {}).publish(json_file, markdown_file)


def prepare(side: Side, name: str, rows: int) -> None:
    """Add the rows that make the difference, and a few that can be claimed."""
    if name != FEW:
        measure.add_backlog(side.url, rows, name, tell)
    if name != WAITING:
        measure.add_backlog(side.url, _FEW, WAITING)


def time_calls(sides: dict[str, Side], scale: Scale, results: Results) -> None:
    """Time claims, and the sends that replace what was claimed, so that as many wait at the end as at the beginning."""
    for number in range(scale.rounds):
        for size, cycles in scale.cycles:
            began = time.monotonic()
            with ExitStack() as stack:
                clients = {name: stack.enter_context(Exchanger(side.url)) for name, side in sides.items()}
                claims, sends = _calls(clients, size, cycles, number)
            _note(results, number, size, claims, sends)
            p99 = "  ".join(f"{name} {1_000 * quantile(times, 0.99):.2f}" for name, times in claims.items())
            took = f"[{time.monotonic() - began:.0f} s]"
            tell(f"claims of {size} {number + 1}/{scale.rounds}  p99 ms: {p99}  {took}")


Times = dict[str, list[float]]


def _calls(clients: dict[str, Exchanger], size: int, cycles: int, number: int) -> tuple[Times, Times]:
    claims, sends = ({name: list[float]() for name in clients} for _ in range(2))
    dice = random.Random(number)
    for client in clients.values():
        for _ in range(_WARM_UP):
            client.cycle(size)
            client.send(size)
    for _ in range(cycles // _BLOCK):
        for name in dice.sample(list(clients), len(clients)):
            for _ in range(_BLOCK):
                claims[name].append(clients[name].cycle(size))
                sends[name].append(clients[name].send(size))
    return claims, sends


def _note(results: Results, number: int, size: int, claims: Times, sends: Times) -> None:
    for name in claims:
        for what, times in (("claim", claims), ("send", sends)):
            for quantile_name, share in (("p50", 0.5), ("p99", 0.99)):
                results.add(_metric(what, size, quantile_name), name, number, 1_000 * quantile(times[name], share))


def _metric(what: str, size: int, quantile_name: str) -> str:
    return f"{what} {size}, {quantile_name} ms"


def time_drains(sides: dict[str, Side], scale: Scale, results: Results) -> None:
    """Let real workers empty the queue by turns."""
    for side in sides.values():
        with Exchanger(side.url) as client:
            client.empty()
    for number in range(scale.rounds):
        for name in random.Random(number).sample(list(sides), len(sides)):
            rate = measure.drain_rate(sides[name], scale.drained)
            results.add(DRAIN, name, number, rate)
            tell(f"drain {number + 1}/{scale.rounds}  {name} {rate:,.0f}/s")


DRAIN = "drain/s"

_SIZES = [size for size, _ in Scale().cycles]

RATIOS = (
    *(Ratio(_metric("claim", size, "p99"), WAITING, FEW, at_most=1.5) for size in _SIZES),
    *(Ratio(_metric("claim", size, "p99"), side, FEW, at_most=1.5) for side in (DELAYED, PAUSED) for size in _SIZES),
    *(Ratio(DRAIN, side, FEW, at_least=0.9) for side in (DELAYED, PAUSED)),
    *(Ratio(_metric("claim", size, "p50"), WAITING, FEW) for size in _SIZES),
    *(Ratio(_metric("send", size, name), WAITING, FEW) for size in _SIZES for name in ("p50", "p99")),
)


if __name__ == "__main__":
    main()
