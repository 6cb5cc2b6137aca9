"""Import the modules in which actors are declared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dramatiq

from pipeline.broker.broker import PostgresBroker
from pipeline.errors import ConfigurationError, PipelineError


def load(modules: Sequence[str]) -> PostgresBroker:
    """Import the modules, also from the current directory, and find the broker that their actors belong to.

    Raises:
        ConfigurationError: That cannot work; its cause is the module's own exception, if there is one.
    """
    for module in modules:
        imported(module)
    broker = dramatiq.get_broker()
    if not isinstance(broker, PostgresBroker):
        raise ConfigurationError(
            f"The modules set a {type(broker).__name__} as Dramatiq's broker, not a PostgresBroker"
        )
    if not broker.actors:
        raise ConfigurationError(f"There is no actor in {', '.join(modules)}")
    return broker


def imported(module: str) -> ModuleType:
    """Import a module, also from the current directory.

    Raises:
        ConfigurationError: That cannot work; its cause is the module's own exception, if there is one.
    """
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # behind all else, so that it hides nothing
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"There is no module {module} (looked in {Path.cwd()} too)") from None
        raise ConfigurationError(f"The module {module} cannot be imported: {error}") from error
    except PipelineError as error:
        raise ConfigurationError(f"The module {module} cannot be imported: {error}") from error
    except Exception as error:
        raise ConfigurationError(f"The module {module} cannot be imported: {error!r}") from error
