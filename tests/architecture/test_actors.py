"""Every business task says what it is: where it waits, how often it is tried, why running twice is safe."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.tree import Source, python

MUST_SAY = {"queue_name", "max_retries"}


def actors(source: Source) -> Iterator[tuple[ast.FunctionDef, set[str]]]:
    """Find the functions under ``@actor(…)``, and the options they are declared with."""
    for node in ast.walk(source.tree):
        for decorator in getattr(node, "decorator_list", []):
            call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
            if getattr(call.func, "attr", getattr(call.func, "id", "")) == "actor":
                yield node, {keyword.arg or "" for keyword in call.keywords}


DECLARED = [(source, *found) for source in python("actors") for found in actors(source)]


@pytest.mark.parametrize(("source", "function", "options"), DECLARED, ids=lambda value: getattr(value, "name", None))
def test_an_actor_says_what_it_is(source: Source, function: ast.FunctionDef, options: set[str]) -> None:
    assert options >= MUST_SAY, f"{source}:{function.lineno}"
    assert ast.get_docstring(function), f"{source}:{function.lineno}"


@pytest.mark.parametrize(("source", "function", "options"), DECLARED, ids=lambda value: getattr(value, "name", None))
def test_an_actor_says_what_a_second_run_does(source: Source, function: ast.FunctionDef, options: set[str]) -> None:
    told = (ast.get_docstring(function) or "").lower()

    assert any(words in told for words in ("twice", "at least once", "second run")), f"{source}:{function.lineno}"


def test_there_are_actors() -> None:
    assert len(DECLARED) >= 5


def test_an_actor_that_says_nothing_is_noticed() -> None:
    ((function, options),) = actors(Source("x", "@actor\ndef f():\n    pass"))
    ((_, more),) = actors(Source("x", "@pipeline.actor(queue_name='q')\ndef f():\n    pass"))

    assert ast.get_docstring(function) is None
    assert (options, more) == (set(), {"queue_name"})
