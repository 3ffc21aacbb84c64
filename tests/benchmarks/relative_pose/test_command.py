"""The benchmark of relative poses, from files to rows, against code that shares nothing with it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import cv2
import h5py
import numpy as np
import poselib
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.bootstrap import interval
from benchmarks.pair_values import read_pair_values
from benchmarks.pairs import sources
from benchmarks.pairs.estimator_options import EstimatorName
from benchmarks.pairs.feature_pairs import MatchedFeatures, MatchedImages
from benchmarks.record import Row, read_run
from benchmarks.relative_pose.__main__ import RelativePoseOptions, main
from benchmarks.relative_pose.threshold_choice import GRID
from featplug.metrics.two_view_estimators import ESTIMATORS, Estimator
from pipelines.datasets.demo import DemoOptions, make_demo_world
from tests.benchmarks.methods_of_others import OWN_METHODS
from tests.documented import assert_documented
from tests.scenes.posed_points import K, write_posed_points

ALL = tuple(ESTIMATORS)
SEEDS = (0, 1, 2)
SMALL = DemoOptions(seed=1, num_database=16, num_queries=4, image_size=320)
Pairs = list[tuple[str, str]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pairs]:
    folder = tmp_path_factory.mktemp("posed") / "points"
    return folder, write_posed_points(folder)


@pytest.fixture(scope="module")
def measured(data: tuple[Path, Pairs], tmp_path_factory: pytest.TempPathFactory) -> Path:
    outputs = tmp_path_factory.mktemp("measured")
    run(data[0], outputs, estimator=ALL, threshold=1.0, num_seeds=len(SEEDS))
    return outputs


def run(dataset: Path, outputs: Path, **options: Any) -> list[Row]:
    files = {
        "features": (f"points={dataset}/feats.h5",),
        "matches": (f"points={dataset}/matches.h5",),
    }
    main(RelativePoseOptions(dataset, outputs=outputs, **(files | options)))
    return read_run(outputs).rows


def estimates_of_others(
    estimator: str,
    points: tuple[np.ndarray, np.ndarray],
    intrinsics: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> np.ndarray | None:
    """Call a library as its users do: OpenCV as SuperGlue's code, the others with whole cameras."""
    points0, points1 = points
    if len(points0) < 5:
        return None
    if estimator.startswith("opencv"):
        order = np.random.default_rng(seed).permutation(len(points0))
        method = {"ransac": cv2.RANSAC, "magsac": cv2.USAC_MAGSAC}[estimator.split("-")[1]]
        trials = {"ransac": 1000, "magsac": 10_000}[estimator.split("-")[1]]
        a, b = (
            (p[order] - k[[0, 1], [2, 2]]) / k[[0, 1], [0, 1]]
            for p, k in zip(points, intrinsics, strict=True)
        )
        focal = sum(k[0, 0] + k[1, 1] for k in intrinsics) / 4
        stack, mask = cv2.findEssentialMat(
            a, b, np.eye(3), method, 0.99999, 1.0 / focal, maxIters=trials
        )
        best, pose = 0, None
        for essential in np.split(stack, len(stack) // 3):
            num, turn, shift, _ = cv2.recoverPose(essential, a, b, np.eye(3), 1e9, mask=mask.copy())
            if num > best:
                best, pose = num, np.hstack([turn, shift])
        return pose
    cameras = [
        {
            "model": "PINHOLE",
            "width": round(2 * k[0, 2]),
            "height": round(2 * k[1, 2]),
            "params": [k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5],
        }
        for k in intrinsics
    ]
    if estimator == "poselib":
        options = {"max_epipolar_error": 1.0, "seed": seed, "success_prob": 0.9999}
        options |= {"max_iterations": 10_000, "min_iterations": 100}
        pose, _ = poselib.estimate_relative_pose(
            points0 + 0.5, points1 + 0.5, *cameras, options, {}
        )
        return np.array(pose.Rt)
    options = pycolmap.RANSACOptions(
        max_error=1.0,
        confidence=0.9999,
        random_seed=seed,
        min_num_trials=100,
        max_num_trials=10_000,
    )
    found = pycolmap.estimate_essential_matrix(
        points0 + 0.5, points1 + 0.5, *(pycolmap.Camera(c) for c in cameras), options
    )
    return None if found is None else found["cam2_from_cam1"].matrix()


def degrees_of_error(estimated: np.ndarray | None, true: np.ndarray) -> float:
    if estimated is None:
        return np.inf
    turn = Rotation.from_matrix(estimated[:, :3]) * Rotation.from_matrix(true[:, :3]).inv()
    cosine = estimated[:, 3] @ true[:, 3]
    cosine /= np.linalg.norm(estimated[:, 3]) * np.linalg.norm(true[:, 3])
    translation = np.degrees(np.arccos(np.clip(abs(cosine), 0, 1)))
    return float(max(np.degrees(turn.magnitude()), translation))


def expected_metrics(folder: Path, estimator: str, seed: int) -> Mapping[str, float]:
    """Read the files and follow the papers' formulas, step by step."""
    errors, precisions = [], []
    with h5py.File(folder / "feats.h5") as features, h5py.File(folder / "matches.h5") as matches:
        for line in (folder / "town_pairs_with_gt.txt").read_text().splitlines():
            name0, name1, _, _, *words = line.split()
            true = np.array(words[18:], float).reshape(4, 4)[:3]
            matches0 = matches[name0][name1]["matches0"][:]
            points0 = features[name0]["keypoints"][:][matches0 >= 0].astype(float)
            points1 = features[name1]["keypoints"][:][matches0[matches0 >= 0]].astype(float)
            pose = estimates_of_others(estimator, (points0, points1), (K, K), seed)
            errors.append(degrees_of_error(pose, true))
            x, y, z = true[:, 3]
            essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ true[:, :3]
            right = 0
            for p, q in zip(points0, points1, strict=True):
                p, q = (np.linalg.inv(K) @ [*v, 1] for v in (p, q))
                a, b = essential @ p, essential.T @ q
                square = (q @ a) ** 2
                right += square / (a[0] ** 2 + a[1] ** 2) + square / (b[0] ** 2 + b[1] ** 2) < 1e-4
            precisions.append(right / len(points0))
    return areas_and_accuracy(errors) | {"epipolar_precision_0.0001": float(np.mean(precisions))}


def areas_and_accuracy(errors: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return AUC and mAA of errors in degrees, summed by loops."""
    expected = {}
    for threshold in (5, 10, 20):
        area, last = 0.0, (0.0, 0.0)
        for rank, error in enumerate(sorted(errors), 1):
            if error >= threshold:
                break
            area += (error - last[0]) * (last[1] + rank / len(errors)) / 2
            last = error, rank / len(errors)
        area += (threshold - last[0]) * last[1]
        expected[f"pose_auc_{threshold}"] = area / threshold
    accuracies = [sum(e < degree for e in errors) / len(errors) for degree in range(1, 11)]
    expected["pose_maa_10"] = sum(accuracies) / 10
    return expected


@pytest.mark.parametrize("estimator", ALL)
def test_figures_are_those_of_independent_code(
    data: tuple[Path, Pairs], measured: Path, estimator: str
) -> None:
    rows = {row.seed: row for row in read_run(measured).rows if estimator in row.protocol}
    assert set(rows) == set(SEEDS)
    for seed, row in rows.items():
        assert seed is not None
        for name, value in expected_metrics(data[0], estimator, seed).items():
            assert row.metrics[name]["value"] == pytest.approx(value, abs=1e-6), (name, seed)
        assert row.metrics["pose_auc_20"]["value"] > 0.5


@pytest.mark.slow
def test_figures_of_photographs_are_those_of_independent_code(shared: Path, tmp_path: Path) -> None:
    scene, longer_side = shared / "data" / "strecha" / "Herz-Jesus-P8", 1600
    main(
        RelativePoseOptions(
            scene,
            feature=("sift+NN-ratio",),
            max_keypoints=1024,
            estimator=ALL,
            threshold=1.0,
            num_seeds=1,
            outputs=tmp_path,
        )
    )
    errors: dict[str, list[float]] = {name: [] for name in ALL}
    cameras = {}
    for file in sorted((scene / "gt_dense_cameras").glob("*.camera")):
        words = np.array(file.read_text().split(), float)
        scale = longer_side / words[24]
        turn = words[12:21].reshape(3, 3).T
        # Pixel corners are at integers where images are scaled, and centres in the helpers above.
        intrinsics = np.diag([scale, scale, 1]) @ words[:9].reshape(3, 3) - np.outer(
            [0.5, 0.5, 0], [0, 0, 1]
        )
        cameras[file.stem] = scale, intrinsics, np.column_stack([turn, -turn @ words[21:24]])
    (file,) = (tmp_path / "matches").glob("*.h5")
    with h5py.File(file) as matches:
        for (name0, view0), (name1, view1) in combinations(cameras.items(), 2):
            pair = matches[f"images-{name0}/images-{name1}"]
            points = tuple(
                (pair[key][:].astype(float) + 0.5) * scale - 0.5
                for key, scale in (("keypoints0", view0[0]), ("keypoints1", view1[0]))
            )
            turn = view1[2][:, :3] @ view0[2][:, :3].T
            true = np.column_stack([turn, view1[2][:, 3] - turn @ view0[2][:, 3]])
            for name in ALL:
                pose = estimates_of_others(name, points, (view0[1], view1[1]), 0)
                errors[name].append(degrees_of_error(pose, true))
    rows = [row for row in read_run(tmp_path).rows if row.part == "all"]
    assert len(rows) == len(ALL)
    for row in rows:
        (estimator,) = (name for name in ALL if row.protocol.endswith(name))
        measured = read_pair_values(tmp_path / str(row.pair_values)).values["pose_error"]
        # A solver magnifies the last bits of its input, which these two ways to it differ in.
        np.testing.assert_allclose(measured, errors[estimator], rtol=0, atol=1e-3)
        for name, value in areas_and_accuracy(measured).items():
            assert row.metrics[name]["value"] == pytest.approx(value, abs=1e-6), (name, estimator)
        assert row.metrics["pose_auc_10"]["value"] > 0.5


def test_a_row_has_its_estimator_seed_and_pairs(data: tuple[Path, Pairs], measured: Path) -> None:
    rows = read_run(measured).rows
    assert {row.protocol for row in rows} == {f"pairs+{name}" for name in ALL}
    assert {row.estimator for row in rows} == {f"{name} (1 px)" for name in ALL}
    assert len({row.pair_values for row in rows}) == len(rows) == len(ALL) * len(SEEDS)
    assert_documented(measured / "results.json")
    row = rows[0]
    assert len(row.pictures) == 2
    assert set(row.stages) == {"extract", "match and measure", "estimate"}
    values = read_pair_values(measured / str(row.pair_values))
    assert values.pairs == data[1]
    for name, metric in row.metrics.items():
        if name in ("mean_keypoints", "failed_pairs", "pairs_without_pose"):
            continue  # of images; sums
        found = interval(name, [values.values])
        assert found is not None, name
        assert found.value == pytest.approx(metric["value"], abs=1e-7), name


def test_a_pair_of_too_few_matches_is_a_failure(measured: Path) -> None:
    for row in read_run(measured).rows:
        assert row.metrics["pairs_without_pose"]["value"] == 1
        values = read_pair_values(measured / str(row.pair_values)).values
        assert np.isinf(values["pose_error"][-1])
        assert np.isfinite(values["pose_error"][:-1]).all()
        assert values["inliers"][-1] == 0


def test_nothing_is_measured_again(
    data: tuple[Path, Pairs], measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_run(measured).rows

    def must_not_run(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Estimator, "relative_pose", must_not_run)
    monkeypatch.setattr(MatchedFeatures, "read_pair", must_not_run)
    again = run(data[0], measured, estimator=ALL, threshold=1.0, num_seeds=len(SEEDS))
    assert [row.metrics for row in again] == [row.metrics for row in before]
    assert set(again[0].reused) == {"extract", "match and measure", "estimate"}


def test_another_estimator_does_not_match_again(
    data: tuple[Path, Pairs], tmp_path: Path, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(data[0], tmp_path, estimator=("opencv-ransac",), num_seeds=1)

    def must_not_run(*_: object) -> None:
        raise AssertionError("matched again")

    monkeypatch.setattr(MatchedFeatures, "read_pair", must_not_run)
    rows = run(data[0], tmp_path, estimator=("poselib",), threshold=1.0, num_seeds=1)
    expected = [row for row in read_run(measured).rows if row.protocol == "pairs+poselib"]
    assert rows[0].metrics == expected[0].metrics
    assert "match and measure" in rows[0].reused
    assert "estimate" not in rows[0].reused


def test_a_killed_run_keeps_its_matches(
    data: tuple[Path, Pairs], tmp_path: Path, measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_pair, calls = MatchedFeatures.read_pair, []

    def counting(self: MatchedFeatures, pair: Any) -> Any:
        calls.append(pair.name0)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read_pair(self, pair)

    monkeypatch.setattr(MatchedFeatures, "read_pair", counting)
    with pytest.raises(KeyboardInterrupt):
        run(data[0], tmp_path, threshold=1.0, num_seeds=3)
    rows = run(data[0], tmp_path, threshold=1.0, num_seeds=3)
    assert len(calls) == 6 + len(data[1]) - 5
    expected = [row.metrics for row in read_run(measured).rows if "opencv-ransac" in row.protocol]
    assert [row.metrics for row in rows] == expected


def test_matches_of_another_photograph_are_made_again(
    data: tuple[Path, Pairs], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "points"
    shutil.copytree(data[0], folder)
    run(folder, tmp_path / "out", num_seeds=1)
    (folder / "view1.png").write_bytes((folder / "view2.png").read_bytes())
    run(folder, tmp_path / "out", num_seeds=1)
    assert len(list((tmp_path / "out" / "matches").glob("points*.h5"))) == 2


def test_pairs_that_a_method_has_no_matches_of_count_as_failures(
    data: tuple[Path, Pairs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "points"
    shutil.copytree(data[0], folder)
    with h5py.File(folder / "matches.h5", "r+") as file:
        del file["view0.png"]["view1.png"]
    (row,) = run(folder, tmp_path / "out", num_seeds=1)
    assert row.metrics["failed_pairs"]["value"] == 1
    assert row.metrics["pairs_without_pose"]["value"] == 2
    values = read_pair_values(tmp_path / "out" / str(row.pair_values)).values
    assert np.isinf(values["pose_error"][0])
    assert "counts as a failure" in str(row.not_comparable)
    assert "view0.png view1.png" in capsys.readouterr().out


def test_thresholds_are_chosen_on_other_pairs(
    data: tuple[Path, Pairs], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    write_posed_points(other, 4, "hall", seed=3, noise=1.5, wrong=0)
    for name in ("feats.h5", "matches.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            for folder in (data[0], other):
                with h5py.File(folder / name) as source:
                    for key in source:
                        source.copy(key, file)
    rows = run(
        data[0],
        tmp_path / "out",
        tune=other,
        estimator=("poselib", "opencv-magsac"),
        num_seeds=2,
        features=(f"points={tmp_path}/feats.h5",),
        matches=(f"points={tmp_path}/matches.h5",),
    )
    printed = capsys.readouterr().out
    chosen = read_run(tmp_path / "out").data["other, thresholds"]["chosen_thresholds"]
    assert [entry["estimator"] for entry in chosen] == ["poselib", "opencv-magsac"]
    for entry in chosen:
        scores = entry["pose_auc_10"]
        assert len(scores) == len(GRID)
        assert max(scores.values()) == scores[f"{entry['threshold']:g}"]
        label = f"{entry['estimator']} ({entry['threshold']:g} px)"
        assert label in {row.estimator for row in rows}
        assert label in printed
    assert len(rows) == 4


def test_the_measured_pairs_cannot_choose_thresholds(
    data: tuple[Path, Pairs], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"--tune .*another"):
        run(data[0], tmp_path / "out", tune=data[0])
    copied = tmp_path / "renamed"
    shutil.copytree(data[0], copied)
    with pytest.raises(ValueError, match=r"--tune .*view0.png.*other images"):
        run(data[0], tmp_path / "out", tune=copied)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(data[0], tmp_path / "out", tune=tmp_path / "nowhere")


def test_every_estimator_is_an_option() -> None:
    assert get_args(EstimatorName) == ALL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "--threshold must be above 0"),
        ({"threshold": float("nan")}, "--threshold must be above 0"),
        ({"threshold": 1.0, "tune": Path("other")}, "not both"),
        ({"num_seeds": 0}, "--num-seeds"),
        ({"seeds": (1, 1)}, "seed 1"),
        ({"protocol": ("scannet-1500",)}, "scannet-1500.*use one of pairs"),
    ],
)
def test_options_that_do_not_fit(
    data: tuple[Path, Pairs], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run(data[0], tmp_path / "out", **options)


def test_a_threshold_and_other_rules_are_recorded(data: tuple[Path, Pairs], tmp_path: Path) -> None:
    (usual,) = run(data[0], tmp_path, num_seeds=1, pictures=False)
    default = ESTIMATORS["opencv-ransac"].pose_threshold
    assert usual.estimator == f"opencv-ransac ({default:g} px)"
    (row,) = run(data[0], tmp_path, threshold=2.5, num_seeds=1, pictures=False)
    assert row.estimator == "opencv-ransac (2.5 px)"
    (other,) = run(data[0], tmp_path, threshold=0.5, num_seeds=1, pictures=False)
    assert other.estimator == "opencv-ransac (0.5 px)"
    assert other.metrics["inliers"]["value"] < row.metrics["inliers"]["value"]


@pytest.mark.parametrize(
    ("layout", "protocol", "is_metric"),
    [
        ("megadepth1500", "megadepth-1500", False),
        ("scannet1500", "scannet-1500", True),
    ],
)
def test_the_demo_world_in_each_layout(
    tmp_path: Path, world: Path, layout: Any, protocol: str, is_metric: bool
) -> None:
    folder = make_demo_world(world, SMALL, layout)
    options = RelativePoseOptions(
        folder,
        outputs=tmp_path,
        feature=("sift+NN-ratio",),
        estimator=("poselib",),
        num_seeds=1,
        max_keypoints=500,
    )
    main(options)
    rows = {row.part: row for row in read_run(tmp_path).rows}
    row = rows["all"]
    assert row.protocol == f"{protocol}+poselib"
    assert row.metrics["pose_auc_20"]["value"] > 0.1
    assert ("pose_maa_10deg_5m" in row.metrics) == is_metric
    assert row.settings["max_keypoints"] == 500
    assert row.not_comparable is not None  # a small world
    assert "max_keypoints" not in row.not_comparable


def test_a_matcher_of_two_images_is_measured_and_its_matches_are_kept(
    data: tuple[Path, Pairs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text(OWN_METHODS)
    method = f"{tmp_path}/own.py:Still"
    options = {"feature": (method,), "features": (), "matches": (), "pictures": False}
    (row,) = run(data[0], tmp_path / "out", num_seeds=1, **options)
    assert row.not_comparable is None
    assert row.metrics["mean_matches"]["value"] > 100
    assert "mean_keypoints" not in row.metrics

    def must_not_run(*_: object) -> None:
        raise AssertionError("matched again")

    monkeypatch.setattr(MatchedImages, "read_pair", must_not_run)
    monkeypatch.setattr(sources, "REVISION", sources.REVISION + 1)  # of what is measured of them
    rows = run(data[0], tmp_path / "out", estimator=("poselib",), num_seeds=1, **options)
    assert rows[0].metrics["mean_matches"] == row.metrics["mean_matches"]
    assert "mean_keypoints" not in rows[0].metrics
