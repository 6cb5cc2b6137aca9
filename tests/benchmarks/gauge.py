"""What processes take: processor time, memory, connections; and what PostgreSQL was asked. Linux only (``/proc``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from pipeline.db.dsn import Dsn

_TICKS = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"
MIB = 2**20


def children(pid: int) -> list[int]:
    """The processes that one has started and that are still there."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def cpu_seconds(pid: int, *, with_ended_children: bool = False) -> float:
    """Processor time that a process has taken since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended_children else 13])) / _TICKS


def server_seconds(postmaster: int) -> float:
    """Processor time of a whole PostgreSQL server: its postmaster, all backends, and those that have ended."""
    seconds = cpu_seconds(postmaster, with_ended_children=True)
    for backend in children(postmaster):
        with suppress(OSError):  # it has ended since
            seconds += cpu_seconds(backend)
    return seconds


def resident_mib(pid: int) -> float:
    """Resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def connections(pid: int, url: str) -> int:
    """How many connections a process has to a server."""
    port = Dsn.parse(url).hosts[0].port
    sockets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            sockets.add(str(file.readlink()))
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(
        int(line[2].rpartition(":")[2], 16) == int(port)
        and line[3] == _ESTABLISHED
        and f"socket:[{line[9]}]" in sockets
        for line in lines
    )


@dataclass(frozen=True)
class Asked:
    """What a database was asked since it was made. Each of our statements is a transaction of its own when nothing runs."""

    transactions: int
    calls: Mapping[str, int]
    claims: int

    def since(self, before: Asked) -> Asked:
        calls = {name: count - before.calls.get(name, 0) for name, count in self.calls.items()}
        return Asked(
            self.transactions - before.transactions,
            {name: count for name, count in sorted(calls.items(), key=lambda call: -call[1]) if count},
            self.claims - before.claims,
        )

    @property
    def empty_exchanges(self) -> int:
        """Exchanges that brought nothing and took nothing; those that did both are counted as two of the others."""
        return self.calls.get("exchange_v1", 0) - self.calls.get("conclude_runs", 0) - self.claims


#: Calls of functions are counted where the server was started with track_functions = all.
_ASKED = """
SELECT xact_commit, (SELECT json_object_agg(funcname, calls) FROM pg_stat_user_functions WHERE schemaname = 'pipeline'),
       (SELECT coalesce(last_value, 0) FROM pg_sequences WHERE (schemaname, sequencename) = ('pipeline', 'claim_claim_id_seq'))
  FROM pg_stat_database WHERE datname = current_database()
"""


def asked(url: str) -> Asked:
    """Read PostgreSQL's counters; a session adds its own at most a second late."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(_ASKED)
        transactions, calls, claims = cursor.fetchall()[0]
    return Asked(transactions, calls or {}, claims)
