"""The baseline, and what counts as worse than it."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

BASELINE = Path(__file__).parents[1] / "baseline.json"


class Kind(StrEnum):
    """What a figure is, and so how far it may rise before that is no chance."""

    #: Statements, commits, dead rows: the same each time.
    COUNT = "count"
    #: Bytes of WAL and pages looked at: where rows land and indexes split varies a little.
    VOLUME = "volume"
    #: Processor time as a multiple of that of a fixed piece of Python.
    EFFORT = "effort"


#: By what part of the baseline a figure may be larger. On a machine with five times as many busy processes as cores,
#: volumes varied by 3 % (where an index splits) and efforts by 4 %.
TOLERANCE = {Kind.COUNT: 0.0, Kind.VOLUME: 0.1, Kind.EFFORT: 0.15}
#: Another release of Python, or of PostgreSQL, is another machine.
FOREIGN_TOLERANCE = {Kind.COUNT: 0.0, Kind.VOLUME: 0.25, Kind.EFFORT: 0.5}
#: Counts of things that are told by the thousand.
_DIGITS = 3


@dataclass(frozen=True)
class Figure:
    """One measured value; less is better."""

    kind: Kind
    value: float


Figures = dict[str, Figure]


@dataclass(frozen=True)
class Versions:
    """What figures were measured with."""

    python: str
    postgresql: str

    @classmethod
    def here(cls, postgresql: str) -> Versions:
        return cls(".".join(platform.python_version_tuple()[:2]), postgresql.partition(".")[0])

    def tolerance(self, kind: Kind, baseline: Versions) -> float:
        """Tell how much more a figure may be here than where the baseline was measured."""
        is_same = {
            Kind.COUNT: True,
            Kind.VOLUME: self.postgresql == baseline.postgresql,
            Kind.EFFORT: self.python == baseline.python,
        }[kind]
        return (TOLERANCE if is_same else FOREIGN_TOLERANCE)[kind]


@dataclass(frozen=True)
class Verdict:
    """One figure beside the baseline's; either may be missing."""

    name: str
    kind: Kind | None
    value: float | None
    expected: float | None
    tolerance: float = 0

    @property
    def bound(self) -> float | None:
        """The largest value that is taken for no worse."""
        return None if self.expected is None else round(self.expected * (1 + self.tolerance), _DIGITS)

    @property
    def complaint(self) -> str | None:
        """What is wrong, if something is."""
        if self.value is None:
            return f"{self.name}: in the baseline, but not measured"
        if self.bound is None:
            return f"{self.name}: measured, but not in the baseline"
        if round(self.value, _DIGITS) > self.bound:
            return f"{self.name}: {self.value:,.3f}, the baseline is {self.expected:,.3f}, at most {self.bound:,.3f} is tolerated"
        return None

    @property
    def is_better(self) -> bool:
        """Tell whether the baseline should be renewed, or it would hide a later regression."""
        if self.value is None or self.expected is None:
            return False
        return round(self.value, _DIGITS) < round(self.expected * (1 - self.tolerance), _DIGITS)


def compare(figures: Figures, versions: Versions, baseline: tuple[Figures, Versions]) -> list[Verdict]:
    """Set each figure beside the baseline's."""
    expected, before = baseline
    verdicts = []
    for name in [*expected, *(figures.keys() - expected.keys())]:
        measured, wanted = figures.get(name), expected.get(name)
        kind = (measured or wanted).kind  # type: ignore[union-attr]
        verdicts.append(
            Verdict(
                name,
                kind,
                measured and measured.value,
                wanted and wanted.value,
                versions.tolerance(kind, before),
            )
        )
    return verdicts


def complaints(verdicts: list[Verdict]) -> list[str]:
    return [verdict.complaint for verdict in verdicts if verdict.complaint is not None]


def least(figures: Figures, others: Figures) -> Figures:
    """Keep of each figure the smaller one: noise only adds."""
    return {
        name: min(figure, others.get(name, figure), key=lambda each: each.value) for name, figure in figures.items()
    }


def measured_until_no_worse(
    measure: Callable[[], Figures], versions: Versions, baseline: tuple[Figures, Versions], attempts: int = 3
) -> Figures:
    """Measure; if something is worse, measure again and keep the least. What has become dearer stays dearer."""
    figures = measure()
    for _ in range(attempts - 1):
        if not complaints(compare(figures, versions, baseline)):
            break
        figures = least(figures, measure())
    return figures


def read(path: Path = BASELINE) -> tuple[Figures, Versions]:
    """Read the committed baseline."""
    document = json.loads(path.read_text())
    figures = {name: Figure(Kind(each["kind"]), each["value"]) for name, each in document["figures"].items()}
    return figures, Versions(**document["versions"])


def write(figures: Figures, versions: Versions, path: Path = BASELINE) -> None:
    """Make figures the baseline."""
    document = {
        "versions": vars(versions),
        "figures": {
            name: {"kind": each.kind, "value": round(each.value, _DIGITS)} for name, each in sorted(figures.items())
        },
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
