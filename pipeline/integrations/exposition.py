"""Prometheus's text format 0.0.4: three rules, for which no package is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    #: What stands behind the name (``_sum``, or nothing), labels, value.
    samples: list[tuple[str, Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add a sample."""
        self.samples.append(("", labels, value))

    def add_histogram(self, bounds: Iterable[float], counts: Iterable[int], total: float, **labels: str) -> None:
        """Add a histogram of cumulative counts, the last being that of all; ``total`` is the sum of the values."""
        counts = list(counts)
        for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], counts, strict=True):
            self.samples.append(("_bucket", labels | {"le": bound}, count))
        self.samples.extend([("_sum", labels, total), ("_count", labels, counts[-1])])


def render(families: Iterable[Family]) -> str:
    """Write metrics as Prometheus reads them."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for suffix, labels, value in family.samples:
        inner = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
        yield f"{family.name}{suffix}{f'{{{inner}}}' if inner else ''} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")


def _number(value: float) -> str:
    """Write counts without a point, however large, and anything else as precisely as it is."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
