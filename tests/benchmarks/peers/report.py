"""Results as Markdown, JSON and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Column, Table

from tests.benchmarks.page import markdown_table
from tests.benchmarks.peers.catalog import GOALS, LIMITS, METRIC, METRICS, PEERS, Goal, Limit, Metric, Peer
from tests.benchmarks.peers.figures import Results, Spread

NONE = "–"


def measured(results: Results) -> list[Peer]:
    """The systems of which there is a figure, in the catalog's order."""
    return [peer for peer in PEERS if any(results.spread(metric.name, peer.name) for metric in METRICS)]


def columns(results: Results) -> list[Metric]:
    """The metrics of which there is a figure."""
    return [metric for metric in METRICS if results.values.get(metric.name)]


def figure(spread: Spread | None, digits: int) -> tuple[str, str]:
    """A median, and its range beneath it; without a range where all runs gave the same."""
    if spread is None:
        return NONE, ""
    low, high = f"{spread.low:,.{digits}f}", f"{spread.high:,.{digits}f}"
    return f"{spread.median:,.{digits}f}", "" if low == high else f"{low}–{high}"


def figures_of(results: Results, peer: Peer) -> list[tuple[str, str]]:
    return [figure(results.spread(metric.name, peer.name), metric.digits) for metric in columns(results)]


def ratios_of(results: Results, peer: Peer) -> list[tuple[str, str]]:
    return [figure(results.ratio(metric.name, "ours", peer.name), 2) for metric in columns(results)]


def compared(results: Results) -> list[Peer]:
    """The systems that share a metric with ours."""
    others = [peer for peer in measured(results) if peer.name != "ours"]
    return [peer for peer in others if any(cell != (NONE, "") for cell in ratios_of(results, peer))]


def asked(goal: Goal) -> str:
    return f"{'≥' if goal.at_least else '≤'} {goal.bound:g}"


def goals_of(results: Results) -> list[tuple[str, str, str, str]]:
    """What is asked of us, how near we came, and whether it was reached; of what was measured."""
    titles = {peer.name: peer.title for peer in PEERS}
    rows = []
    for goal in GOALS:
        ratio = results.ratio(goal.metric, goal.ours, goal.other)
        if ratio is not None:
            what = f"{METRIC[goal.metric].title}: {titles[goal.ours]} / {titles[goal.other]}"
            reached = "yes" if goal.is_met_by(ratio.median) else "no"
            rows.append((what, asked(goal), " ".join(filter(None, _in_brackets(figure(ratio, 2)))), reached))
    return rows


def limits_of(results: Results) -> list[tuple[str, str, str, str]]:
    """The same for what has a bound of its own, and not one that is a ratio."""
    titles = {peer.name: peer.title for peer in PEERS}
    rows = []
    for limit in LIMITS:
        spread = results.spread(limit.metric, limit.ours)
        if spread is not None:
            metric = METRIC[limit.metric]
            cell = " ".join(filter(None, _in_brackets(figure(spread, metric.digits))))
            reached = "yes" if limit.is_met_by(spread.median) else "no"
            rows.append((f"{metric.title}: {titles[limit.ours]}", f"< {limit.bound:g}", cell, reached))
    return rows


def _in_brackets(cell: tuple[str, str]) -> tuple[str, str]:
    return cell[0], f"({cell[1]})" if cell[1] else ""


# --- terminal ---------------------------------------------------------------------------------------------------------


def terminal(results: Results) -> list[Table]:
    """The tables of the report, for rich."""
    figures = Table(
        Column("median and range", no_wrap=True),
        *(Column(metric.short, overflow="fold") for metric in columns(results)),
    )
    goals = Table(Column("goal", no_wrap=True), "asked", "ratio (interval)", "reached")
    limits = Table(Column("limit", no_wrap=True), "asked", "median (range)", "reached")
    for peer in measured(results):
        figures.add_row(peer.title, *("\n".join(filter(None, cell)) for cell in figures_of(results, peer)))
    for row in goals_of(results):
        goals.add_row(*row)
    for row in limits_of(results):
        limits.add_row(*row)
    return [figures, *(table for table in (goals, limits) if table.row_count)]


# --- Markdown ---------------------------------------------------------------------------------------------------------


def markdown(results: Results, about: dict[str, str]) -> str:
    """The whole report as one page."""
    titles = [metric.title for metric in columns(results)]
    parts = [
        "# Beside peers\n",
        *(f"- {name}: {value}" for name, value in about.items()),
        "\n## Figures\n\nMedian of the rounds, and their range.\n",
        markdown_table(["", *titles], ([peer.title, *_cells(figures_of(results, peer))] for peer in measured(results))),
        "\n## Ratios\n\nOurs divided by theirs within each round: the median, and its interval.\n",
        markdown_table(
            ["ours /", *titles], ([peer.title, *_cells(ratios_of(results, peer))] for peer in compared(results))
        ),
        *_goals(results),
        "\n## What ran\n",
        markdown_table(
            ["", "versions", "settings"],
            ([peer.title, _versions(results, peer), peer.settings] for peer in measured(results)),
        ),
        *_missing(results),
    ]
    return "\n".join(parts) + "\n"


def _goals(results: Results) -> list[str]:
    goals, limits = goals_of(results), limits_of(results)
    parts = ["\n## Goals\n", markdown_table(["", "asked", "ratio (interval)", "reached"], goals)] if goals else []
    if limits:
        parts += ["\n## Limits\n", markdown_table(["", "asked", "median (range)", "reached"], limits)]
    return parts


def _cells(cells: Iterable[tuple[str, str]]) -> list[str]:
    return ["<br>".join(filter(None, cell)) for cell in cells]


def _versions(results: Results, peer: Peer) -> str:
    return ", ".join(f"{name} {version}" for name, version in results.versions.get(peer.name, {}).items()) or NONE


def _missing(results: Results) -> list[str]:
    titles = {peer.name: peer.title for peer in PEERS}
    rows = [f"- {titles[name]} was left out: {reason}" for name, reason in results.left_out.items()]
    rows += [f"- {_of(what, titles)} failed: {message.splitlines()[0]}" for what, message in results.failures.items()]
    return ["\n## Missing\n", *rows] if rows else []


def _of(what: str, titles: dict[str, str]) -> str:
    """Failures are named by system and visit."""
    name, _, visit = what.partition(": ")
    return f"{titles.get(name, name)} ({visit})"


# --- JSON -------------------------------------------------------------------------------------------------------------


def document(results: Results, about: dict[str, str]) -> dict[str, Any]:
    """Everything that was measured, each run by itself, and the goals."""
    return {
        "about": about,
        "runs": {
            metric: {name: [runs[number] for number in sorted(runs)] for name, runs in systems.items()}
            for metric, systems in results.values.items()
        },
        "goals": [_goal(results, goal) for goal in GOALS if results.ratio(goal.metric, goal.ours, goal.other)],
        "limits": [_limit(results, limit) for limit in LIMITS if results.spread(limit.metric, limit.ours)],
        "versions": results.versions,
        "settings": {peer.name: peer.settings for peer in measured(results)},
        "left_out": results.left_out,
        "failures": results.failures,
    }


def _goal(results: Results, goal: Goal) -> dict[str, Any]:
    ratio = results.ratio(goal.metric, goal.ours, goal.other)
    assert ratio is not None
    return {
        "metric": goal.metric,
        "ours": goal.ours,
        "other": goal.other,
        "asked": asked(goal),
        "ratio": ratio.median,
        "interval": [ratio.low, ratio.high],
        "reached": goal.is_met_by(ratio.median),
    }


def _limit(results: Results, limit: Limit) -> dict[str, Any]:
    spread = results.spread(limit.metric, limit.ours)
    assert spread is not None
    return {
        "metric": limit.metric,
        "ours": limit.ours,
        "asked": f"< {limit.bound:g}",
        "median": spread.median,
        "range": [spread.low, spread.high],
        "reached": limit.is_met_by(spread.median),
    }
