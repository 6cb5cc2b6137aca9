"""The glossary: one word for each thing, and its synonyms nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.architecture.tree import Source, doc, sources, table_rows

#: Synonyms that DESIGN rules out, as sequences of small words: "job" also stands for job_id, JobQueue and "jobs".
FORBIDDEN = {
    "job": "task",
    "cron job": "schedule",
    "handler": "actor",
    "reservation": "claim",
    "visibility timeout": "lease",
    "channel": "queue",
    "beat schedule": "schedule",
    "workflow": "chain, group",
}

#: Where a word is somebody else's, with the reason. (file or folder, word)
ALLOWED = {
    ("pipeline/logs.py", "handler"): "logging's own class",
    ("pipeline/broker/root_logger.py", "handler"): "logging's own class",
    ("pipeline/broker/task_logs.py", "handler"): "logging's own class",
    ("pipeline/supervisor/signals.py", "handler"): "the signal module's word for what it calls",
    ("actors/smtp_dev.py", "handler"): "asyncio's method",
    ("api/errors.py", "handler"): "Flask's method",
    ("pipeline/broker/notify.py", "channel"): "PostgreSQL's word for what NOTIFY goes to",
    ("scheduler/timers.py", "job"): "APScheduler's word for a timer",
    ("deploy/README.md", "job"): "the name of a setting of Prometheus",
    ("docs/reference/glossary.md", "*"): "names the words that are not used",
    ("docs/howto/move-from-celery.md", "*"): "speaks of Celery in Celery's words",
}

SEARCHED = sources(
    "pipeline", "actors", "api", "scheduler", "sql", "docs", "deploy", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"
)

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def found_in(source: Source) -> Iterator[tuple[int, str]]:
    """Find forbidden words, also as parts of names."""
    for number, line in enumerate(source.lines, 1):
        text = " " + " ".join(word.lower() for word in _WORD.findall(line)) + " "
        for word in FORBIDDEN:
            if re.search(rf" {word}s? ", text):
                yield number, word


def is_allowed(source: Source, word: str) -> bool:
    return (source.name, word) in ALLOWED or (source.name, "*") in ALLOWED


def test_no_synonyms() -> None:
    found = [(source, line, word) for source in SEARCHED for line, word in found_in(source)]
    offences = [f"{source}:{line}: {word}" for source, line, word in found if not is_allowed(source, word)]

    assert offences == []


@pytest.mark.parametrize("text", ["job_id", "class JobQueue:", "get_jobs()", "Cron-Job", "the handlers", "JOB"])
def test_a_synonym_is_found_in_any_spelling(text: str) -> None:
    assert list(found_in(Source("x", text)))


@pytest.mark.parametrize("text", ["jobber", "Hiob", "channelled"])
def test_a_part_of_another_word_is_not_a_synonym(text: str) -> None:
    assert not list(found_in(Source("x", text)))


@pytest.mark.parametrize(("name", "word"), ALLOWED)
def test_every_exception_is_needed(name: str, word: str) -> None:
    (source,) = (source for source in SEARCHED if source.name == name)

    assert [found for _, found in found_in(source) if word in {found, "*"}]


def test_the_glossary_names_every_forbidden_word() -> None:
    never = " ".join(row[-1] for row in table_rows(doc("reference/glossary.md")))

    assert [word for word in FORBIDDEN if word not in never] == []
