"""Prometheus's text format, read back by Prometheus's own parser."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.integrations.exposition import Family, render


def read_back(*families: Family) -> list[tuple[str, dict[str, str], float]]:
    return [
        (s.name, s.labels, s.value)
        for family in text_string_to_metric_families(render(families))
        for s in family.samples
    ]


def test_a_sample_has_a_name_labels_and_a_value() -> None:
    family = Family("tasks", "gauge", "How many.")
    family.add(3, queue="mail", state="queued")
    family.add(0.25)

    assert (
        render([family])
        == '# HELP tasks How many.\n# TYPE tasks gauge\ntasks{queue="mail",state="queued"} 3\ntasks 0.25\n'
    )


@pytest.mark.parametrize("text", ['a"b', "a\\b", "a\nb", "a\\nb", "ä}{,=", ""])
def test_any_text_can_be_a_label(text: str) -> None:
    family = Family("tasks", "gauge", "How many.")
    family.add(1, actor=text)

    assert read_back(family) == [("tasks", {"actor": text}, 1)]


@pytest.mark.parametrize("value", [0, 1, 2**53 + 1, 1e-9, 1234567.891, True])
def test_numbers_keep_their_value(value: float) -> None:
    family = Family("tasks", "gauge", "How\nmany \\ are there.")
    family.add(value)

    assert read_back(family) == [("tasks", {}, value)]


def test_a_histogram_has_buckets_a_sum_and_a_count() -> None:
    family = Family("wait_seconds", "histogram", "How long.")
    family.add_histogram([0.005, 1.0, 3600.0], [1, 2, 2, 5], 7.5, queue="mail")

    assert read_back(family) == [
        ("wait_seconds_bucket", {"queue": "mail", "le": "0.005"}, 1),
        ("wait_seconds_bucket", {"queue": "mail", "le": "1"}, 2),
        ("wait_seconds_bucket", {"queue": "mail", "le": "3600"}, 2),
        ("wait_seconds_bucket", {"queue": "mail", "le": "+Inf"}, 5),
        ("wait_seconds_sum", {"queue": "mail"}, 7.5),
        ("wait_seconds_count", {"queue": "mail"}, 5),
    ]


def test_a_histogram_whose_counts_do_not_fit_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Family("wait_seconds", "histogram", "How long.").add_histogram([1.0], [1], 1.0)
