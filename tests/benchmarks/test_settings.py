"""The settings that stand beside figures come from what was run, by the names of the options."""

from __future__ import annotations

from pathlib import Path

from benchmarks.matching.__main__ import MatchingOptions, main
from benchmarks.record import Row, read_run
from benchmarks.report.result_tables import make_tables
from benchmarks.report.runs import LoadedRun
from benchmarks.settings import method_settings, settings_text
from tests.scenes.sequences import write_oxford


def test_thresholds_of_any_name_are_settings() -> None:
    feature = {
        "model": {
            **{"name": "own", "detection_threshold": 0.2, "max_keypoints": 5000, "nms_radius": 2},
            **{"detector": {"edge_threshold": 10, "fill": True}, "fill": False},
        },
        "preprocessing": {"resize_max": 1600, "grayscale": True},
    }
    matcher = {
        "name": "own",
        "ratio_threshold": 0.8,
        "own_threshold": 0.05,
        "other_threshold": None,
    }
    settings = method_settings(feature, matcher, 2048)
    assert settings == {
        **{"max_keypoints": 2048, "resize_max": 1600, "detection_threshold": 0.2},
        **{"detector.edge_threshold": 10, "detector.fill": True},
        **{"matcher.ratio_threshold": 0.8, "matcher.own_threshold": 0.05},
    }
    assert settings_text(settings, "poselib (1 px)") == (
        "2,048 keypoints, 1,600 px, detection threshold 0.2, detector.edge threshold 10, "
        "detector.fill, matcher own threshold 0.05, poselib (1 px)"
    )
    assert method_settings(feature)["max_keypoints"] == 5000
    assert "max_keypoints" not in method_settings(feature, None, -1)  # all of them
    assert (method_settings(), settings_text({})) == ({}, "")


def test_rows_have_the_settings_that_were_used(tmp_path: Path) -> None:
    write_oxford(tmp_path / "data")
    main(
        MatchingOptions(
            tmp_path / "data",
            outputs=tmp_path / "out",
            feature=("sift+NN-ratio", "colmap/sift"),
            option=(("sift+NN-ratio", "contrast_threshold=0.02"),),
            max_keypoints=300,
            pictures=False,
        )
    )
    run = read_run(tmp_path / "out")
    rows: dict[str, Row] = {row.feature: row for row in run.rows if row.part == "all"}
    settings = rows["sift+NN-ratio"].settings
    assert settings["max_keypoints"] == 300
    assert settings["contrast_threshold"] == 0.02
    assert settings["matcher.ratio_threshold"] == 0.8
    assert rows["colmap/sift"].settings["max_keypoints"] == 300
    [table] = make_tables([LoadedRun(tmp_path / "out", "out", run)])
    line = next(line for line in table.lines if line.series == "sift+NN-ratio")
    assert line.settings.startswith("300 keypoints, ")
    assert "contrast threshold 0.02" in line.settings
    assert "ratio" not in line.settings
    assert line.matcher == "NN-ratio (ratio 0.8)"
    assert table.has_settings()
