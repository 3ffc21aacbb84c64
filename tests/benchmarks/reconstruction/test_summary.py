"""The printed table."""

from __future__ import annotations

from typing import Any

from benchmarks.reconstruction.summary import run_lines
from benchmarks.record import Row, Run
from tests.documented import metric


def a_row(feature: str, seed: int, points: float, **entries: Any) -> Row:
    return Row(
        feature,
        "corner",
        "local-feature-evaluation",
        seed=seed,
        metrics={"sparse_points": metric(points, "points"), **entries},
        stages={"map": {"seconds": 2.0, "peak_memory_mib": 100.0 * (seed + 1)}},
    )


def test_a_line_for_each_feature_with_what_is_known() -> None:
    error = metric(0.25, "m")
    rows = [
        a_row("sift", 0, 1000, median_position_error=error),
        a_row("sift", 1, 1002, median_position_error=error),
        a_row("doap", 1, 500),
    ]
    run = Run(
        "reconstruction",
        {"dense": True},
        {"corner": {"images": 6}},
        rows,
    )
    heading, head, sift, doap, _, _, sift_errors, doap_errors, _ = run_lines(run)
    assert heading == (
        "corner: 6 images, mean ± standard deviation over the seeds 0, 1; "
        "position errors in m, rotation errors in degrees"
    )
    assert head.split() == ["points"]  # dense points and others that no feature has take no room
    assert sift.split() == ["sift", "1,001", "±", "1"]
    assert doap.split() == ["doap", "500"]
    assert sift_errors.split() == ["sift", "0.2500", "2.0", "150", "±", "71"]
    assert doap_errors.split() == ["doap", "–", "2.0", "200"]
