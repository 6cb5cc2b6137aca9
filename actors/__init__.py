"""The business tasks of the sample ERP: one module per business area.

Importing this package declares every actor in it, without touching the network, so a worker needs no list of modules
and a new file is found by being there.
"""

from importlib import import_module
from pkgutil import iter_modules

#: Command line programs that use the actors; a worker must not load them.
PROGRAMS = frozenset({"demo", "smtp_dev"})

for _module in iter_modules(__path__):
    if _module.name not in PROGRAMS:
        import_module(f"{__name__}.{_module.name}")
