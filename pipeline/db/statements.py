"""Named SQL: ``sql/queries/<noun>.sql`` as a read-only mapping from name to text.

A file is a row of blocks, each of which begins with its name and says what it promises::

    -- name: pause_queue
    -- Stop handing out the queue's tasks; what runs goes on.
    UPDATE :"schema".queue SET paused = true WHERE name = %(queue)s

Whoever needs a statement takes it at import (``PAUSE = load("pipeline")["pause_queue"]``), so a misspelt name fails at
once.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources.abc import Traversable

from pipeline.db.sources import ROOT, read_folder, render
from pipeline.errors import ConfigurationError

_HEADER = re.compile(r"^-- name: *(\w+) *$", re.MULTILINE)
#: The comment under the name, which the server need not see; a "%" in it would be taken for a parameter, too.
_PROMISE = re.compile(r"\A\s*(?:--.*\n)*")


class Statements(Mapping[str, str]):
    """All named statements, for one schema."""

    def __init__(self, schema: str, root: Traversable = ROOT) -> None:
        self._texts = {name: render(text, schema) for name, text in _blocks(root)}

    def __getitem__(self, name: str) -> str:
        try:
            return self._texts[name]
        except KeyError:
            message = f"There is no statement {name!r} in sql/queries"
            raise ConfigurationError(message) from None

    def __contains__(self, name: object) -> bool:
        return name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@cache
def load(schema: str) -> Statements:
    """Give the statements for a schema; they are read and rendered once per process."""
    return Statements(schema)


def _blocks(root: Traversable) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for file in read_folder("queries", root):
        _, *parts = _HEADER.split(file.text)
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in seen:
                message = f"The statement {name!r} is named twice; the second is in sql/{file.name}"
                raise ConfigurationError(message)
            seen.add(name)
            yield name, _PROMISE.sub("", text).strip().removesuffix(";")
