"""Metrics keep their names and units, and docs/results.md lists them."""

from __future__ import annotations

import pytest

from featplug.io.metric_table import METRICS, find_metric, with_units
from tests.documented import PAGE, metric_row


@pytest.mark.parametrize("name", METRICS)
def test_the_page_has_a_line_of_each_metric(name: str) -> None:
    assert metric_row(name, METRICS[name]) in PAGE.read_text("utf-8").splitlines()


def test_numbers_of_a_name_are_in_its_title() -> None:
    recall = find_metric("recall_0.25m_2deg")
    assert recall is not None
    assert (recall.title, recall.role) == ("within 0.25\N{NO-BREAK SPACE}m, 2°", "headline")
    assert find_metric("recall_some") is None
    assert with_units({"mma_3": 0.5, "fpr95": 0.1}) == {
        "mma_3": {"value": 0.5, "unit": "fraction"},
        "fpr95": {"value": 0.1, "unit": "fraction"},
    }
