"""Bar charts as SVG written by hand: one file per metric, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from tests.benchmarks.peers.catalog import Metric
from tests.benchmarks.peers.figures import Results, Spread
from tests.benchmarks.peers.report import columns, measured

_WIDTH, _ROW, _TOP, _LABEL, _VALUE = 800, 30, 48, 290, 90
_BAR = 18

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 15px }
.peer { fill: #8c959f } .ours { fill: #0969da } .range { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .peer { fill: #6e7681 } .ours { fill: #4493f8 } .range { stroke: #e6edf3 }
}
"""


def write(results: Results, directory: Path) -> list[Path]:
    """Write a chart for each metric that was measured, and return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for metric in columns(results):
        path = directory / f"peers-{metric.name.replace('_', '-')}.svg"
        path.write_text(chart(metric, bars(results, metric)), encoding="utf-8")
        written.append(path)
    return written


def bars(results: Results, metric: Metric) -> list[tuple[str, Spread, bool]]:
    """Title, figure and whether it is ours; the best first."""
    found = [
        (peer.title, spread, peer.name.startswith("ours"))
        for peer in measured(results)
        if (spread := results.spread(metric.name, peer.name))
    ]
    return sorted(found, key=lambda bar: bar[1].median, reverse=metric.more_is_better)


def chart(metric: Metric, rows: list[tuple[str, Spread, bool]]) -> str:
    """Draw horizontal bars from zero, each with the range of its runs as a line."""
    height = _TOP + _ROW * len(rows) + 12
    better = "more is better" if metric.more_is_better else "less is better"
    title = f"{metric.title} ({better}; median and range)"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="10" y="26">{escape(title)}</text>',
        *_rows(metric, rows),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _rows(metric: Metric, rows: list[tuple[str, Spread, bool]]) -> Iterator[str]:
    longest = max((spread.high for _, spread, _ in rows), default=0) or 1
    scale = (_WIDTH - _LABEL - _VALUE) / longest
    for number, (title, spread, is_ours) in enumerate(rows):
        top = _TOP + number * _ROW
        middle = top + _BAR / 2
        low, high = (_LABEL + value * scale for value in (spread.low, spread.high))
        yield f'<text x="{_LABEL - 8}" y="{middle + 4.5:g}" text-anchor="end">{escape(title)}</text>'
        yield (
            f'<rect class="{"ours" if is_ours else "peer"}" x="{_LABEL}" y="{top}" rx="2" height="{_BAR}" '
            f'width="{max(spread.median * scale, 1):.1f}"/>'
        )
        yield f'<line class="range" x1="{low:.1f}" x2="{high:.1f}" y1="{middle:g}" y2="{middle:g}"/>'
        yield f'<text x="{high + 8:.1f}" y="{middle + 4.5:g}">{spread.median:,.{metric.digits}f}</text>'
