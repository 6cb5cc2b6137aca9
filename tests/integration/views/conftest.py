"""Sessions that a test moves step by step, as for races."""

from tests.integration.races.conftest import db, session

__all__ = ["db", "session"]
