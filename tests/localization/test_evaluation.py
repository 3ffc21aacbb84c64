"""Recalls by condition."""

from __future__ import annotations

import numpy as np
import pytest

from featplug.localization.evaluation import (
    RecallRules,
    localization_metrics,
    recall_table,
    truth_of_queries,
)
from featplug.metrics.poses import OLD_NIGHT_THRESHOLDS


def moved(distance: float) -> np.ndarray:
    return np.column_stack([np.eye(3), [distance, 0, 0]])


CONDITIONS = {"day": ["day/1", "day/2"], "night": ["night/1", "night/2", "night/3"]}
TRUTH = {name: moved(0) for names in CONDITIONS.values() for name in names}
RULES = RecallRules(older={"night": OLD_NIGHT_THRESHOLDS}, until="2020")
POSES = {"day/1": moved(0.1), "day/2": moved(0.3), "night/1": moved(0.4), "night/2": moved(0.9)}


def test_each_condition_has_its_recalls_and_failures_count() -> None:
    metrics = {
        name: entry["value"]
        for name, entry in localization_metrics(POSES, CONDITIONS, TRUTH, RULES).items()
    }
    assert metrics["day_recall_0.25m_2deg"] == 50
    assert metrics["day_recall_0.5m_5deg"] == 100
    assert metrics["day_median_position_error"] == pytest.approx(0.2)
    assert metrics["night_localized_queries"] == 2
    assert metrics["night_recall_0.25m_2deg"] == 0
    # As papers measured night queries until 2020.
    assert metrics["night_recall_0.5m_2deg"] == pytest.approx(100 / 3)
    assert metrics["night_recall_1m_5deg"] == pytest.approx(200 / 3)
    assert metrics["night_median_position_error"] == pytest.approx(0.9)
    assert "day_recall_1m_5deg" not in metrics


def test_the_table_says_the_same() -> None:
    lines = recall_table(
        localization_metrics(POSES, CONDITIONS, TRUTH, RULES), list(CONDITIONS), RULES
    )
    assert lines[0].split()[:2] == ["condition", "localized"]
    assert " ".join(lines[1].split()).startswith("day 2 of 2 50.0 % 100.0 % 100.0 %")
    assert " ".join(lines[2].split()).startswith("night 2 of 3 0.0 % 33.3 % 66.7 %")
    assert lines[4].split() == ["night", "33.3", "%", "66.7", "%", "66.7", "%"]


def test_without_truth_what_was_localized_is_counted() -> None:
    metrics = localization_metrics(POSES, CONDITIONS, None, RULES)
    assert set(metrics) == {
        f"{c}_{what}" for c in CONDITIONS for what in ("queries", "localized_queries")
    }
    lines = recall_table(metrics, list(CONDITIONS), RULES)
    assert [" ".join(line.split()) for line in lines[1:]] == ["day 2 of 2", "night 2 of 3"]


def test_true_poses_may_have_full_or_base_names() -> None:
    names = ["query/day/a.jpg", "query/day/b.jpg", "query/day/c.jpg"]
    truth = {"query/day/a.jpg": moved(1), "b.jpg": moved(2), "z.jpg": moved(3)}
    found = truth_of_queries(names, truth)
    assert {name: pose[0, 3] for name, pose in found.items()} == {names[0]: 1, names[1]: 2}
    with pytest.raises(ValueError, match=r"of none of the queries: they are of 'z.jpg'"):
        truth_of_queries(names, {"z.jpg": moved(0)})


def test_a_set_without_conditions_has_metrics_without_a_prefix() -> None:
    rules = RecallRules([(1.0, 10.0)])
    names = [name for listed in CONDITIONS.values() for name in listed]
    metrics = localization_metrics(POSES, {"": names}, {"day/1": moved(0)}, rules)
    assert {name: entry["value"] for name, entry in metrics.items()} == {
        "queries": 5,
        "localized_queries": 4,
        "queries_with_true_pose": 1,
        "recall_1m_10deg": 100,
        "median_position_error": pytest.approx(0.1),
        "median_rotation_error": 0,
    }
