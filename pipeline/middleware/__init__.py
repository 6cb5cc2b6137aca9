"""What runs around every task, in this order; the hooks after a task run in the reverse order.

The order is decided here and nowhere else. It is Dramatiq's own without Prometheus (which takes 19 of the 47 µs that
the defaults cost per message, and opens a port on all interfaces), with our versions of what has to be safe against a
crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage
from dramatiq.results import Results

from pipeline.middleware.async_io import AsyncIO
from pipeline.middleware.group_callbacks import GroupCallbacks
from pipeline.middleware.pipelines import Pipelines
from pipeline.middleware.retries import Retries
from pipeline.middleware.shutdown import ShutdownNotifications
from pipeline.middleware.time_limit import TimeLimit

if TYPE_CHECKING:
    from dramatiq.middleware import Middleware
    from dramatiq.results.backend import ResultBackend

#: Seven days: results live with the attempt's history, not in a cache.
RESULT_TTL_MS = 7 * 24 * 3600 * 1000


def stack(broker: Any, backend: ResultBackend) -> list[Middleware]:
    """Make the middleware of a broker that was given none."""
    return [
        AgeLimit(),
        TimeLimit(),
        ShutdownNotifications(),
        Callbacks(),
        Pipelines(),
        Retries(),
        GroupCallbacks(broker),
        CurrentMessage(),
        AsyncIO(),
        Results(backend=backend, store_results=True, result_ttl=RESULT_TTL_MS),
    ]
