"""The ceiling: our SQL functions driven by pgbench, without any Python."""

from __future__ import annotations

import re
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2

from pipeline.db import binaries
from pipeline.db.dsn import Dsn

#: Acknowledge what this client claimed last and claim ``p_k`` more, as a hub does.
CYCLE = """
CREATE SCHEMA bench;
CREATE FUNCTION bench.cycle(p_worker bigint, p_k int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_last text := coalesce(current_setting('bench.last', true), '');
    v_ids bigint[] := '{}'; v_claims bigint[] := '{}'; v_n int := 0; v_got record;
BEGIN
    IF v_last <> '' THEN
        v_claims := ARRAY[split_part(v_last, '|', 1)::bigint];
        v_ids := split_part(v_last, '|', 2)::bigint[];
        v_n := cardinality(v_ids);
    END IF;
    SELECT max(claim_id) AS claim, array_agg(id) FILTER (WHERE id IS NOT NULL) AS ids, count(*) - 1 AS n INTO v_got
      FROM pipeline.exchange_v1(
        p_worker, 1, v_ids, array_fill(1, ARRAY[v_n]), array_fill('s'::"char", ARRAY[v_n]), array_fill(1, ARRAY[v_n]),
        array_fill(1, ARRAY[v_n]), array_fill(1.0::float8, ARRAY[v_n]), array_fill(0.0::float8, ARRAY[v_n]),
        array_fill(NULL::float8, ARRAY[v_n]), NULL, false, v_claims, '{bench}', p_k, NULL, NULL);
    v_last := CASE WHEN v_got.n > 0 THEN v_got.claim || '|' || v_got.ids::text ELSE '' END;
    PERFORM set_config('bench.last', v_last, false);
    RETURN v_got.n;
END $$;
SELECT pipeline.ensure_lane_v1('bench', 0);
SELECT pipeline.register_worker_v1('bench', n, 8, '{bench}', '{}') FROM generate_series(1, 8) n;
"""
SEND = """
SELECT pipeline.enqueue_v1(gen_random_uuid(), 'bench', 0, 'noop', NULL,
    '{"args":[1,"0123456789"],"kwargs":{},"options":{},"message_timestamp":1700000000000}', 'u', NULL, false);
"""
BARE = 'INSERT INTO bare (payload) VALUES (\'{"args":[1,"0123456789"],"kwargs":{},"options":{}}\');'


class Ceiling:
    """pgbench against one database."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._dsn = Dsn.parse(url)
        self._pgbench = binaries.choose().program("pgbench")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(CYCLE)
            #: Those of its clients, in a row: workers have ids of their own in each database.
            self._first_worker = min(worker for (worker,) in cursor.fetchall())

    def rate(self, script: str, *, clients: int, seconds: int = 3) -> float:
        """Transactions per second, in so many seconds."""
        return self._run(script, clients, "-T", seconds)

    def cycle_rate(self, size: int, *, clients: int, tasks: int) -> float:
        """Tasks per second through exchanges of ``size`` outcomes and claims, of so many tasks that wait.

        Raises:
            RuntimeError: There were not as many.
        """
        first = self._first_worker
        rate = self._run(f"SELECT bench.cycle({first} + :client_id, {size});", clients, "-t", tasks // (size * clients))
        with closing(psycopg2.connect(self._url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT FROM pipeline.ready LIMIT 1")
            if cursor.rowcount == 0:
                raise RuntimeError(f"the queue ran empty in exchanges of {size}: fill in more")
        return size * rate

    def _run(self, script: str, clients: int, *until: object) -> float:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "script.sql"
            file.write_text(" ".join(script.split()) + "\n")
            host = self._dsn.hosts[0]
            command = [
                self._pgbench, "-n", "-M", "prepared", "-c", clients, "-j", clients, *until, "-f", file,
                "-h", host.name, "-p", host.port, "-U", self._dsn.user, self._dsn.database,
            ]  # fmt: skip
            done = subprocess.run(
                list(map(str, command)),
                env={"PGPASSWORD": self._dsn.password or ""},
                capture_output=True,
                text=True,
                check=False,
            )
        found = re.search(r"tps = ([\d.]+)", done.stdout)
        if done.returncode or not found:
            raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
        return float(found[1])
