"""The reference is complete, and its links lead somewhere."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices

import pipeline
from pipeline import errors, task_queue, testing
from pipeline.settings import Settings
from tests.architecture.tree import ROOT, Source, doc, sources, table_rows

ERRORS = [error for _, error in inspect.getmembers(errors, inspect.isclass) if issubclass(error, errors.PipelineError)]
PAGES = sources("docs", "README.md", "CONTRIBUTING.md", "deploy/README.md", suffix=".md")


def variables(name: str) -> list[str]:
    """The environment variables that a setting is read from."""
    alias = Settings.model_fields[name].validation_alias
    return (
        [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [f"PIPELINE_{name.upper()}"]
    )


def shown(default: Any) -> str:
    """A default as it would be written into the environment."""
    if default is None or default == "":
        return "–"
    if isinstance(default, bool):
        return str(default).lower()
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def documented_settings() -> dict[str, str]:
    """Every variable in the first column of the settings' page, and the default beside it."""
    found = {}
    for row in table_rows(doc("reference/settings.md")):
        for name in re.findall(r"`((?:PIPELINE|DATABASE)_[A-Z_]+)`", row[0]):
            found[name] = row[1]
    return found


def test_every_setting_is_documented_with_its_default() -> None:
    expected = {
        name: shown(field.default).replace("`True`", "`true`")
        for field_name, field in Settings.model_fields.items()
        for name in variables(field_name)
    }

    assert {name: default.strip("`") for name, default in documented_settings().items()} == {
        name: default.strip("`") for name, default in expected.items()
    }


def test_every_public_name_is_documented() -> None:
    """A heading of its own in the Python reference, or a row among the errors."""
    titles = " ".join(re.findall(r"(?m)^### (.+)$", doc("reference/python.md")))
    documented = set(re.findall(r"`(\w+)", titles)) | {
        row[0].strip("`") for row in table_rows(doc("reference/errors.md"))
    }

    assert set(pipeline.__all__) - documented == set()


def test_every_function_of_the_old_interface_is_documented() -> None:
    page = doc("reference/python.md")
    functions = [
        name
        for name, value in inspect.getmembers(task_queue, inspect.isfunction)
        if value.__module__ == task_queue.__name__ and not name.startswith("_") and name != "as_status"
    ]

    assert len(functions) == 5
    assert [name for name in functions if f"`{name}(" not in page] == []


def test_every_name_for_tests_is_documented() -> None:
    page = doc("reference/python.md")

    assert [name for name in testing.__all__ if f"`{name}" not in page] == []


def test_every_error_is_documented_with_its_meaning() -> None:
    rows = {row[0].strip("`"): row for row in table_rows(doc("reference/errors.md"))}

    assert {error.__name__ for error in ERRORS} - rows.keys() == set()
    assert {name for name in rows if name[:1].isupper() and not hasattr(errors, name)} == set()


#: What the guide for Celery set. Each has a counterpart here, or is refused and the reason told.
CELERY = [
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "CELERY_TIMEZONE",
    "CELERY_TASK_ALWAYS_EAGER",
    "CELERY_TASK_EAGER_PROPAGATES",
    "CELERY_TASK_IGNORE_RESULT",
    "CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED",
    "CELERY_TASK_TRACK_STARTED",
    "CELERY_TASK_TIME_LIMIT",
    "CELERY_TASK_SOFT_TIME_LIMIT",
    "CELERY_WORKER_PREFETCH_MULTIPLIER",
    "CELERY_WORKER_MAX_TASKS_PER_CHILD",
]


def celery_settings() -> dict[str, str]:
    """What the page about Celery says for each setting in the first column of its tables."""
    rows = table_rows(doc("howto/move-from-celery.md"))
    return {name: row[1] for row in rows for name in re.findall(r"`(CELERY_[A-Z_]+)`", row[0])}


@pytest.mark.parametrize("setting", CELERY)
def test_every_setting_of_celery_has_a_counterpart_or_a_reason(setting: str) -> None:
    answer = celery_settings()[setting]
    named = set(re.findall(r"`(PIPELINE_[A-Z_]+)", answer))

    assert "later" not in answer
    assert re.search(r"`|(refused|always, so there is nothing to set): ", answer)
    assert named - documented_settings().keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_files_and_headings_that_exist(page: Source) -> None:
    assert broken_links(page) == []


def broken_links(page: Source) -> list[str]:
    """Find links to files that are not there, and to headings that those files do not have."""
    broken = []
    text = re.sub(r"(?ms)^```.*?^```", "", page.text)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = link.partition("#")
        if path.startswith("http"):
            continue
        target = (ROOT / page.name).parent / path if path else ROOT / page.name
        if not target.exists() or (heading and heading not in headings(target)):
            broken.append(link)
    return broken


def headings(path: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_a_broken_link_is_noticed() -> None:
    text = "[a](index.md) [b](nowhere.md) [c](index.md#nothing)"

    assert broken_links(Source("docs/index.md", text)) == ["nowhere.md", "index.md#nothing"]


def test_every_page_is_reached_from_the_first() -> None:
    pages = {page.name: page for page in PAGES}
    reached, waiting = set(), ["docs/index.md"]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in pages:
            continue
        reached.add(name)
        links = re.findall(r"\]\(([^)#\s]+\.md)", pages[name].text)
        waiting += [str(((ROOT / name).parent / link).resolve().relative_to(ROOT)) for link in links]

    assert {name for name in pages if name.startswith("docs/")} - reached == set()
