"""Make ``group.run()`` atomic: all members are enqueued or none.

Dramatiq enqueues the members of a group one by one, and has no hook around that. So its method is wrapped, once, and
only brokers of ours behave differently. (A pipeline enqueues only its first step, which is atomic by itself.)
"""

from __future__ import annotations

import functools
from typing import Any

from dramatiq.composition import group

from pipeline.broker.broker import PostgresBroker

_run: Any = group.run


@functools.wraps(_run)
def _run_atomically(self: group, *, delay: int | None = None) -> group:
    if isinstance(self.broker, PostgresBroker):
        with self.broker.atomic():
            _run(self, delay=delay)
    else:
        _run(self, delay=delay)
    return self


def install() -> None:
    """Wrap the method; calling again changes nothing."""
    cls: Any = group
    cls.run = _run_atomically
