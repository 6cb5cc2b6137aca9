"""Exit with 0 if a worker of this machine (or container) has beaten within its lease: the health check of a worker."""

import socket
import sys
from contextlib import closing

from psycopg2 import sql

from pipeline.db.connection import connect
from pipeline.db.embedded import running_url
from pipeline.settings import get_settings

#: Compared by the database's clock: ours may go wrong without any harm to the tasks.
_QUESTION = """
    SELECT count(*) FROM {}.worker_status
     WHERE host = %s AND state = 'alive' AND beat_at > clock_timestamp() - %s * interval '1 s'
"""


def main() -> int:
    """Ask the database, as everybody else does who wants to know whether a worker lives."""
    settings = get_settings()
    question = sql.SQL(_QUESTION).format(sql.Identifier(settings.schema_name))
    with closing(connect(running_url(settings))) as connection, connection.cursor() as cursor:
        cursor.execute(question, (socket.gethostname(), settings.lease_seconds))
        (count,) = cursor.fetchone() or (0,)
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
