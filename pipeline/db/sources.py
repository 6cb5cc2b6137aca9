"""The files of ``sql/``, and the one place where the schema gets its name.

Files are written for psql as well (``psql -v schema=pipeline -f …``): ``:"schema"`` is the schema as an identifier and
``:'schema'`` the same as a string.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable

ROOT = files("sql")


@dataclass(frozen=True)
class SqlFile:
    """One file, by its name inside ``sql/``."""

    name: str
    text: str

    @cached_property
    def checksum(self) -> str:
        """Tell this text from any other; line ends do not count, for git may change them."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_folder(folder: str, root: Traversable = ROOT) -> list[SqlFile]:
    """Read a folder's files in the order of their names; a folder that is absent counts as empty."""
    directory = root / folder
    if not directory.is_dir():
        return []
    entries = sorted((entry for entry in directory.iterdir() if entry.name.endswith(".sql")), key=lambda e: e.name)
    return [SqlFile(f"{folder}/{entry.name}", _normalised(entry.read_text(encoding="utf-8"))) for entry in entries]


def render(text: str, schema: str) -> str:
    """Put the schema's name into a text."""
    identifier = '"' + schema.replace('"', '""') + '"'
    literal = "'" + schema.replace("'", "''") + "'"
    return text.replace(':"schema"', identifier).replace(":'schema'", literal)


def _normalised(text: str) -> str:
    return text.replace("\r\n", "\n")
