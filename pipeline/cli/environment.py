"""What every command begins with: settings, logging, the database."""

from __future__ import annotations

from pipeline import logs
from pipeline.db import embedded
from pipeline.errors import ConfigurationError
from pipeline.runtime import use_database
from pipeline.settings import Settings, get_settings


def prepare() -> Settings:
    """Read the settings and set up logging."""
    settings = get_settings()
    logs.configure(settings)
    return settings


def prepare_for_workers() -> Settings:
    """Prepare as :func:`prepare` does, for a command that runs workers.

    Raises:
        ConfigurationError: Tasks run where they are sent, so a worker would wait for ever.
    """
    settings = prepare()
    if settings.eager:
        raise ConfigurationError(
            "PIPELINE_EAGER is set, so tasks run where they are sent and a worker gets none: unset it to run workers"
        )
    return settings


def use_running_database() -> Settings:
    """Let this process work on the given database, or on an embedded one that runs; never start one for a moment.

    Raises:
        DatabaseUnavailable: The given database does not answer.
        EmbeddedServerError: None was given and none runs; the message says what to do.
    """
    settings = prepare()
    use_database(embedded.running_url(settings))
    return settings
