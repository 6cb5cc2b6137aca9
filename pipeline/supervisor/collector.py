"""Python's garbage collector in a process that does nothing but run tasks.

Each task makes some twenty objects that the collector looks at and that never need it, since they are let go one after
the other; with its defaults it takes a tenth of the time of a drain. Cycles that actors make are found a little later.
"""

import gc

#: After so many new objects, instead of Python's 700, it looks at the youngest.
_YOUNGEST = 10_000


def relax() -> None:
    """Pass over what has been loaded so far for good, and come less often. Call it when all actors are there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNGEST, *gc.get_threshold()[1:])
