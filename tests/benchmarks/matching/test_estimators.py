"""Homographies by other estimators than papers have, with seeds, of the same matches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest

from benchmarks.matching.__main__ import MatchingOptions, main
from benchmarks.pair_values import read_pair_values
from benchmarks.record import Row, read_run
from featplug.metrics.two_view_estimators import ESTIMATORS
from pipelines.datasets.demo import DemoOptions, make_demo_world
from tests.documented import assert_documented
from tests.scenes.sequences import write_hpatches, write_oxford

ALL = tuple(ESTIMATORS)


def run(dataset: Path, outputs: Path, **options: Any) -> list[Row]:
    main(MatchingOptions(dataset, outputs=outputs, max_keypoints=300, pictures=False, **options))
    return read_run(outputs).rows


def test_each_estimator_and_seed_has_rows_of_the_same_matches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hpatches(tmp_path / "data", "i_leuven", "v_wall")
    protocol = ("mma-d2net", "mtldesc-hpatches", "lisrd-480x640", "recall-contextdesc")
    usual = run(tmp_path / "data", tmp_path / "usual", protocol=protocol)
    rows = run(tmp_path / "data", tmp_path / "out", protocol=protocol, estimator=ALL, num_seeds=2)
    assert_documented(tmp_path / "out" / "results.json")
    assert {row.seed for row in usual} == {None}
    assert {row.estimator for row in usual} == {None}
    # No homography is estimated for ContextDesc's recall.
    same = [row for row in rows if row.protocol == "recall-contextdesc"]
    assert [row.metrics for row in same] == [
        row.metrics for row in usual if row.protocol == "recall-contextdesc"
    ]
    rows = [row for row in rows if row not in same]
    assert len(rows) == 3 * len(ALL) * 2 * 3  # protocols, estimators, seeds, parts
    for row in rows:
        name, _, estimator = row.protocol.partition("+")
        assert row.estimator == f"{estimator} (3 px)"
        expected = next(u for u in usual if (u.protocol, u.part) == (name, row.part))
        for metric, entry in expected.metrics.items():
            if not metric.startswith("homography"):
                assert row.metrics[metric] == entry, metric
        assert row.metrics["homography_accuracy_3"]["value"] > 0.5
        values = read_pair_values(tmp_path / "out" / str(row.pair_values)).of_part(row.part)
        right = np.mean(values.values["corner_error"] <= 3)
        assert row.metrics["homography_accuracy_3"]["value"] == pytest.approx(right)
    assert len({row.pair_values for row in rows}) == len(rows) / 3
    printed = capsys.readouterr().out
    assert "poselib (3 px)" in printed


def test_the_errors_are_those_of_the_librarys_own_homography(tmp_path: Path) -> None:
    write_oxford(tmp_path / "data")
    options = {"estimator": ("opencv-magsac",), "seeds": (3,), "threshold": 1.5}
    rows = run(tmp_path / "data", tmp_path / "out", **options)
    points = []
    with h5py.File(next((tmp_path / "out" / "features").glob("*.h5"))) as file:
        sides = [file[f"plane/img{k}.png"] for k in (1, 2)]
        keypoints = [side["keypoints"][:].astype(float) for side in sides]
        a, b = (side["descriptors"][:].astype(np.float32) for side in sides)
        size = sides[0]["image_size"][:]
    similarity = a.T @ b
    best, back = similarity.argmax(1), similarity.argmax(0)
    mutual = np.flatnonzero(back[best] == np.arange(len(best)))
    points = keypoints[0][mutual], keypoints[1][best[mutual]]
    order = np.random.default_rng(3).permutation(len(mutual))
    matrix, _ = cv2.findHomography(
        points[0][order],
        points[1][order],
        cv2.USAC_MAGSAC,
        1.5,
        maxIters=10_000,
        confidence=0.9999,
    )
    true = np.loadtxt(tmp_path / "data" / "plane" / "H1to2p")
    corners = np.array([[0, 0], [size[0] - 1, 0], [0, size[1] - 1], size - 1], float)[:, None]
    moved = [cv2.perspectiveTransform(corners, h)[:, 0] for h in (matrix, true)]
    expected = np.linalg.norm(moved[0] - moved[1], axis=1).mean()
    values = read_pair_values(tmp_path / "out" / str(rows[0].pair_values)).values
    assert values["corner_error"][0] == pytest.approx(expected, abs=1e-6)


def test_planes_of_evd_are_estimated_as_well(tmp_path: Path) -> None:
    folder = make_demo_world(tmp_path / "world", DemoOptions(num_planes=2, image_size=240), "evd")
    rows = run(folder, tmp_path / "out", estimator=("poselib",), num_seeds=2)
    assert [(row.protocol, row.seed) for row in rows] == [("evd+poselib", 0), ("evd+poselib", 1)]
    for row in rows:
        assert "homography_accuracy_3" in row.metrics
        assert "homography_maa_20" not in row.metrics  # which is of its package's own estimator


def test_an_estimator_without_effect_is_an_error(tmp_path: Path) -> None:
    write_oxford(tmp_path / "data")
    with pytest.raises(ValueError, match=r"--estimator has no effect on oxford-ap"):
        run(tmp_path / "data", tmp_path / "out", protocol=("oxford-ap",), estimator=("poselib",))


def test_a_rerun_estimates_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_oxford(tmp_path / "data")
    first = run(tmp_path / "data", tmp_path / "out", estimator=("poselib",), num_seeds=2)

    def must_not_run(*_: object) -> None:
        raise AssertionError("estimated again")

    monkeypatch.setattr(type(ESTIMATORS["poselib"]), "homography", must_not_run)
    again = run(tmp_path / "data", tmp_path / "out", estimator=("poselib",), num_seeds=2)
    assert [row.metrics for row in again] == [row.metrics for row in first]
    assert "estimate" in again[0].reused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 2.0}, "--threshold.*--estimator"),
        ({"num_seeds": 3}, "--num-seeds.*--estimator"),
        ({"threshold": -1.0, "estimator": ("poselib",)}, "--threshold must be above 0"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_oxford(tmp_path / "data")
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "data", tmp_path / "out", **options)
