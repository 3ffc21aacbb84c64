"""Names of data sets and the parts that figures are of."""

from __future__ import annotations

from pathlib import Path

from benchmarks.scene_names import metrics_by_part, scene_folder


def test_a_scene_is_named_by_the_folder_of_its_photographs(tmp_path: Path) -> None:
    for folder in (tmp_path / "town", tmp_path / "town" / "images"):
        assert scene_folder(folder) == (tmp_path / "town").resolve()


def test_metrics_are_those_of_the_condition_they_begin_with() -> None:
    metrics = {"night_queries": 1, "queries": 3, "day_queries": 2, "daylight": 4}
    assert metrics_by_part(metrics, ["day", "night"]) == {
        "all": {"queries": 3, "daylight": 4},
        "day": {"queries": 2},
        "night": {"queries": 1},
    }
