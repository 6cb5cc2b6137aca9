"""Does a pinned horizon cost anything: ``./dev bench xmin``.

As long as a transaction is open, rows that were deleted since it began cannot be removed. Workers drain by turns where
none is open and where one has been open during many drains. Each has a server of its own: a transaction that has written
holds the horizon of all databases of its server back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import click
import psycopg2

from tests.benchmarks import measure, paired
from tests.benchmarks.exchanger import RECORD, Exchanger
from tests.benchmarks.measure import Side
from tests.benchmarks.paired import Ratio, Report, tell
from tests.benchmarks.peers.figures import Results, quantile
from tests.benchmarks.pins import PINS, Pin
from tests.fixtures.wait import eventually

CLEAN = "clean"
#: Enough history for a dump to be stuck in.
_HISTORY = 3_000
_CHUNK = 100_000
#: About as many as a worker claims at a time while it drains.
_BATCH = 400
#: What a worker process does at first is left out of its exchanges: everything is cold, and it learns by two full scans what
#: they cost.
_WARM_UP_SECONDS = 1.5

#: What is told of the durations of exchanges.
SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Scale:
    """How many dead rows there are before the first drain, and how many tasks each drain adds."""

    dead: int = 1_200_000
    drained: int = 100_000
    rounds: int = 6


QUICK = Scale(dead=20_000, drained=5_000, rounds=1)


@click.command()
@click.option("--dead", type=int, help="Dead rows before the first drain (1.2 million; quick: 20 thousand).")
@click.option("--tasks", type=int, help="Tasks of each drain (100 thousand; quick: 5 thousand).")
@click.option("--rounds", type=int, help="Rounds with the pin, and as many after it (6; quick: 1).")
@click.option("--pin", "pins", multiple=True, type=click.Choice(list(PINS)), help="Leave out all others.")
@click.option("--quick", is_flag=True, help="Show that everything runs; the figures say little.")
@paired.options
def main(
    *,
    dead: int | None,
    tasks: int | None,
    rounds: int | None,
    pins: tuple[str, ...],
    quick: bool,
    directory: Path,
    json_file: Path | None,
    markdown_file: Path | None,
) -> None:
    """Drain beside dead rows that cannot be removed, and compare with the same where they can."""
    scale = QUICK if quick else Scale()
    scale = Scale(dead or scale.dead, tasks or scale.drained, rounds or scale.rounds)
    results, notes = Results(), dict[str, str]()
    with paired.home(directory) as home, ExitStack() as stack:
        sides = {name: _side(name, home, stack) for name in (CLEAN, *(pins or PINS))}
        about = paired.about(
            _version(sides[CLEAN]), dead=f"{scale.dead:,}", tasks=f"{scale.drained:,}", rounds=scale.rounds
        )
        tell(", ".join(f"{name} {value}" for name, value in about.items()))
        held = {name: stack.enter_context(PINS[name](sides[name].url)) for name in sides if name != CLEAN}
        notes |= {f"{name}: how": pin.how for name, pin in held.items()}
        for name, side in sides.items():
            make_dead_rows(side, name, scale.dead)
            notes[f"{name}: dead rows before"] = _dead_rows(side)
            tell(f"{name}: dead rows that stay: {_dead_rows(side)}")
        drain(sides, "pinned", scale, home, results)
        notes |= {f"{name}: dead rows at the end": _dead_rows(side) for name, side in sides.items()}
        release(sides, held, notes)
        drain(sides, "after", scale, home, results)
    Report("Pinned horizon", about, results, ratios(), notes).publish(json_file, markdown_file)


def _side(name: str, home: Path, stack: ExitStack) -> Side:
    """Start a server, make its database, and let some tasks be done there."""
    server = stack.enter_context(paired.server(home / name))
    exchanges = home / f"exchanges-{name}"
    exchanges.mkdir()
    side = timed_side(server.url, exchanges)
    stack.enter_context(side.database())
    _do_tasks(side, _HISTORY)
    return side


def timed_side(server_url: str, exchanges: Path, database: str = "bench") -> Side:
    """Our side, whose workers write the durations of their exchanges into a directory."""
    return Side("ours_timed", server_url, database, {"BENCH_EXCHANGES": str(exchanges)})


def _version(side: Side) -> str:
    with closing(psycopg2.connect(side.url)) as connection:
        return str(connection.get_parameter_status("server_version")).partition(" ")[0]


def make_dead_rows(side: Side, name: str, count: int) -> None:
    """Let so many tasks wait, be claimed and concluded, and remove what can be removed of them."""
    for first in range(0, count, _CHUNK):
        _do_tasks(side, min(_CHUNK, count - first))
        tell(f"{name}: {min(first + _CHUNK, count):,} of {count:,} tasks done")
    measure.execute(side.url, "VACUUM (ANALYZE)")


def _do_tasks(side: Side, count: int) -> None:
    measure.insert_backlog(side.url, count, "waiting")
    with Exchanger(side.url) as client:
        client.empty(_BATCH)


def _dead_rows(side: Side) -> str:
    """Tell what is dead and not removed, by table, as the server counts it."""
    with closing(psycopg2.connect(side.url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, n_dead_tup FROM pg_stat_user_tables"
            " WHERE schemaname = 'pipeline' AND n_dead_tup > 0 ORDER BY n_dead_tup DESC, relname"
        )
        return ", ".join(f"{table} {count:,}" for table, count in cursor.fetchall()) or "none"


def drain(sides: dict[str, Side], when: str, scale: Scale, home: Path, results: Results) -> None:
    """Let workers empty the queue by turns."""
    for number in range(scale.rounds):
        for name in random.Random(number).sample(list(sides), len(sides)):
            directory = home / f"exchanges-{name}"
            for old in directory.iterdir():
                old.unlink()
            rate = measure.drain_rate(sides[name], scale.drained)
            times = list(_exchanges(directory))
            results.add(f"{when}: drain/s", name, number, rate)
            shares = [(what, 1_000 * quantile(times, share)) for what, share in SHARES.items()]
            for what, value in shares:
                results.add(f"{when}: exchange {what}, ms", name, number, value)
            told = f"{len(times)} exchanges, ms: " + "  ".join(f"{what} {value:.1f}" for what, value in shares)
            tell(f"{when} {number + 1}/{scale.rounds}  {name:9} {rate:,.0f}/s  {told}")


def _exchanges(directory: Path) -> Iterator[float]:
    """Give the seconds of each exchange of warm processes."""
    for path in directory.iterdir():
        records = list(RECORD.iter_unpack(path.read_bytes()))
        first = records[0][0] if records else 0.0
        warm = [took for began, took, _ in records if began - first >= _WARM_UP_SECONDS]
        yield from warm or [took for _, took, _ in records]


def release(sides: dict[str, Side], held: dict[str, Pin], notes: dict[str, str]) -> None:
    """End what pins, and let the server remove the dead rows."""
    for name, pin in held.items():
        if pin.sends is None:
            pin.release()
        else:
            notes[f"{name}: its task began"] = f"{_late_seconds(sides[name], pin):.1f} s after the commit"
    for name, side in sides.items():
        began = time.monotonic()
        measure.execute(side.url, "VACUUM (ANALYZE)")
        notes[f"{name}: dead rows after"] = f"{_dead_rows(side)} (VACUUM took {time.monotonic() - began:.1f} s)"


def _late_seconds(side: Side, pin: Pin) -> float:
    """Commit below the floors of workers that have just become idle; return how long the task waits then."""
    side.run("fill", _HISTORY)
    with side.workers() as counters, closing(psycopg2.connect(side.url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def is_done() -> bool:
            cursor.execute("SELECT FROM pipeline.task_status WHERE task_id = %s AND state = 'succeeded'", (pin.sends,))
            return cursor.rowcount > 0

        eventually(lambda: sum(counter.read()[0] for counter in counters) >= _HISTORY, within=60)
        began = time.monotonic()
        pin.release()
        eventually(is_done, within=60)
        return time.monotonic() - began


def ratios() -> list[Ratio]:
    """What is asked: as quick with the pin, and after it."""
    return [
        ratio
        for when in ("pinned", "after")
        for name in PINS
        for ratio in (
            Ratio(f"{when}: drain/s", name, CLEAN, at_least=0.9),
            Ratio(f"{when}: exchange p99, ms", name, CLEAN, at_most=2),
            Ratio(f"{when}: exchange p50, ms", name, CLEAN),
            Ratio(f"{when}: exchange max, ms", name, CLEAN),
        )
    ]


if __name__ == "__main__":
    main()
