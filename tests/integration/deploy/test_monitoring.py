"""The dashboard and the alert rules ask for nothing that the API does not tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import dramatiq
import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from actors.models import create_tables
from api.app import create_app
from api.extensions import db
from pipeline import get_broker
from pipeline.runtime import ask
from pipeline.settings import Settings
from pipeline.store import schedules
from pipeline.store.audit import By
from pipeline.store.schedules import Put
from tests.architecture.tree import doc, table_rows
from tests.fixtures.broker import working
from tests.fixtures.process_broker import process_broker

DEPLOY = Path(__file__).parents[3] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
RULES = [rule for group in YAML(typ="safe").load(DEPLOY / "prometheus/alerts.yml")["groups"] for rule in group["rules"]]

PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
VARIABLES = [
    (variable["name"], variable["query"]) for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"
]
ALERTS = [(rule["alert"], rule["expr"]) for rule in RULES]

#: What PromQL itself knows, as far as it is used here.
FUNCTIONS = {
    "absent", "deriv", "histogram_quantile", "increase", "label_values", "max", "min", "rate", "sum", "topk",
}  # fmt: skip
WORDS = {"and", "or", "unless", "by"}

_TOKEN = re.compile(
    r"""(?P<matchers>\{[^}]*\}) | (?P<by>\bby\s*\([^)]*\)) | (?P<range>\[\d+[smhd]\]) | (?P<name>[a-zA-Z_:][\w:]*)
      | (?P<number>\d+(?:\.\d+)?) | (?P<sign>[()+\-*/,]|[<>]=?|==|!=) | (?P<space>\s+)""",
    re.VERBOSE,
)
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*(?:,|$)')

Known = dict[str, dict[str, set[str]]]


@dramatiq.actor(queue_name="watched", broker=get_broker())
def watched() -> None:
    """Do nothing, but be counted."""


def tokens(expression: str) -> Iterator[tuple[str, str]]:
    """Take an expression apart, all of it."""
    position = 0
    while position < len(expression):
        found = _TOKEN.match(expression, position)
        assert found, f"{expression[position:]!r} is no PromQL that this test knows"
        position = found.end()
        assert found.lastgroup is not None
        if found.lastgroup != "space":
            yield found.lastgroup, found.group()


def complaints(expression: str, known: Known) -> list[str]:
    """Name each metric, label and value of an expression that is not among those that were scraped."""
    wrong: list[str] = []
    metrics: list[str] = []
    grouped: set[str] = set()
    for kind, text in tokens(expression):
        if kind == "name" and text not in FUNCTIONS | WORDS | {"queue"}:
            metrics.append(text)
            wrong += [] if text in known else [f"metric {text}"]
        elif kind == "by":
            grouped |= set(re.findall(r"\w+", text)) - {"by"}
        elif kind == "matchers":
            wrong += _wrong_matchers(text[1:-1], metrics[-1], known)
    labels = {label for metric in metrics for label in known.get(metric, {})}
    return wrong + [f"label {label}" for label in sorted(grouped - labels)]


def _wrong_matchers(text: str, metric: str, known: Known) -> list[str]:
    wrong = []
    found = _MATCHER.findall(text)
    assert ",".join(f'{label}{sign}"{value}"' for label, sign, value in found) == text, text
    for label, sign, value in found:
        values = known.get(metric, {}).get(label)
        if values is None:
            wrong.append(f"label {label} of {metric}")
        elif not value.startswith("$"):
            wanted = value.split("|") if sign in {"=~", "!~"} else [value]
            wrong += [f"{label}={each} of {metric}" for each in wanted if each not in values]
    return wrong


@pytest.fixture
def client(database_url: str) -> Iterator[FlaskClient]:
    create_tables(database_url)
    with process_broker(database_url):
        app = create_app(Settings(database_url=database_url))
        yield app.test_client()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def known(client: FlaskClient) -> Known:
    """What a scrape of a system tells in which something has run: metrics, their labels, the values of these."""
    broker = get_broker()
    definition = {"kind": "interval", "expression": "60s", "actor": "watched"}
    ask(schedules.put, Put("nightly", definition), by=By("me"))
    watched.send()
    with working(broker, queues={"watched"}):
        broker.join("watched", timeout=20_000)
    found: Known = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def test_every_metric_and_label_that_is_asked_for_is_told(known: Known) -> None:
    asked = [*PANELS, *VARIABLES, *ALERTS]
    wrong = {(name, complaint) for name, expression in asked for complaint in complaints(expression, known)}

    assert wrong == set()


def test_every_metric_is_on_the_dashboard(known: Known) -> None:
    shown = {text for _, expression in PANELS for kind, text in tokens(expression) if kind == "name"}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}

    assert families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set()


def test_every_metric_and_label_is_documented(known: Known) -> None:
    told = doc("reference/http.md")
    families = {re.sub(r"_(bucket|sum|count)$", "", name): labels for name, labels in known.items()}
    rows = [row for row in table_rows(told) if row[0].startswith("`pipeline_")]

    documented = {name: set(re.findall(r"`(\w+)`", row[1])) for row in rows for name in re.findall(r"`(\w+)`", row[0])}

    assert documented == {name: set(labels) - {"le"} for name, labels in families.items()}


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("max(pipeline_taskz)", "metric pipeline_taskz"),
        ("max by (kueue) (pipeline_tasks)", "label kueue"),
        ('pipeline_tasks{kueue="x"}', "label kueue of pipeline_tasks"),
        ('pipeline_tasks{state="qeued"}', "state=qeued of pipeline_tasks"),
        ('rate(pipeline_runs_ended_total{outcome=~"failed|lots"}[5m])', "outcome=lots of pipeline_runs_ended_total"),
    ],
)
def test_a_slip_is_noticed(known: Known, expression: str, complaint: str) -> None:
    assert complaints(expression, known) == [complaint]


@pytest.mark.parametrize("expression", ["max(pipeline_tasks", 'pipeline_tasks{state="queued"', "max(pipeline_tasks))"])
def test_brackets_are_even(expression: str) -> None:
    assert not is_balanced(expression)


def is_balanced(expression: str) -> bool:
    bare = re.sub(r'"[^"]*"', "", expression)
    return all(bare.count(opening) == bare.count(closing) for opening, closing in ("()", "[]", "{}"))


@pytest.mark.parametrize(("name", "expression"), [*PANELS, *ALERTS])
def test_an_expression_can_be_read(name: str, expression: str) -> None:
    assert is_balanced(expression)
    assert list(tokens(expression))


def test_counters_are_asked_for_by_their_rate() -> None:
    for name, expression in [*PANELS, *ALERTS]:
        for counter in re.findall(r"pipeline_\w+_(?:total|bucket|sum|count)\b", expression):
            assert re.search(
                rf"(?:rate|increase)\({counter}(?:\{{[^}}]*\}})?\[\d+m|(?:rate|increase)\({counter}(?:\{{[^}}]*\}})?\[\d+h",
                expression,
            ), name


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 10
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_panels_do_not_overlap() -> None:
    cells = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
