"""A report of tables: on the terminal, as Markdown, as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table


def markdown_table(head: list[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


@dataclass(frozen=True)
class Section:
    """One table, what is to be known about it, and the values behind it."""

    title: str
    head: list[str]
    rows: list[list[str]]
    data: Any
    note: str = ""

    def terminal(self) -> Table:
        table = Table(*self.head, title=self.title, title_justify="left", caption=self.note, caption_justify="left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        return "\n\n".join(filter(None, [f"## {self.title}", markdown_table(self.head, self.rows), self.note]))


@dataclass
class Page:
    """A report in the making."""

    title: str
    about: dict[str, str]
    sections: dict[str, Section] = field(default_factory=dict)

    def markdown(self) -> str:
        about = "\n".join(f"- {name}: {value}" for name, value in self.about.items())
        return "\n\n".join([f"# {self.title}", about, *(each.markdown() for each in self.sections.values())]) + "\n"

    def document(self) -> dict[str, Any]:
        return {"about": self.about, **{name: section.data for name, section in self.sections.items()}}
