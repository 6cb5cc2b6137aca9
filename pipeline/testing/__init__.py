"""For the tests of an application: what was enqueued, and running it in the test's own thread.

On a real PostgreSQL, with the claims, transactions, retries and outcomes of a real worker. The fixtures are in
:mod:`pipeline.testing.plugin`; without pytest, :func:`bound` and :func:`reset` do the same.
"""

from pipeline.testing.database import bound, reset
from pipeline.testing.enqueued import EnqueuedTask, assert_enqueued, assert_not_enqueued, enqueued
from pipeline.testing.running import Run, drain, run_pending

__all__ = [
    "EnqueuedTask",
    "Run",
    "assert_enqueued",
    "assert_not_enqueued",
    "bound",
    "drain",
    "enqueued",
    "reset",
    "run_pending",
]
