"""Pairs of scenes with Strecha's cameras: of the demo world, and of photographs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.pairs.datasets import read_pairs, recognise
from featplug.io.images import read_image
from featplug.metrics.epipolar import sampson_errors
from pipelines.datasets.demo import make_demo_world
from pipelines.demo.layouts import write_strecha_camera
from pipelines.demo.pair_layouts import TruePair, TruePairs
from tests.benchmarks.pairs.conftest import PAIRS


@pytest.mark.parametrize("places", [("a/images", "a/gt_dense_cameras"), ("a", "a")])
def test_pairs_of_a_scene_have_the_true_cameras(
    world: Path, truth: TruePairs, tmp_path: Path, places: tuple[str, str]
) -> None:
    photographs, cameras = (tmp_path / place for place in places)
    shutil.copytree(make_demo_world(world, PAIRS, "pairs") / "images", photographs)
    cameras.mkdir(exist_ok=True)
    views = {Path(view.name).name: view for view in truth.by_day[:6]}
    for name, view in views.items():
        write_strecha_camera(cameras / f"{name}.camera", view)
    distorted = replace(truth.by_day[6].camera, distortion=0.01)
    name = Path(truth.by_day[6].name).name
    write_strecha_camera(cameras / f"{name}.camera", replace(truth.by_day[6], camera=distorted))
    (cameras / "lost.jpg.camera").write_text((cameras / "day000.jpg.camera").read_text())
    assert recognise(tmp_path) == recognise(tmp_path / "a") == "strecha"
    for folder in (tmp_path, tmp_path / "a"):
        pair_set = read_pairs(folder, "strecha")
        assert pair_set.pairs
        for pair in pair_set.pairs:
            names = Path(pair.name0).name, Path(pair.name1).name
            true = TruePair(views[names[0]], views[names[1]], "viewpoint", 0)
            np.testing.assert_allclose(pair.intrinsics, true.intrinsics, rtol=1e-12)
            np.testing.assert_allclose(pair.cam1_from_cam0, true.cam1_from_cam0[:3], atol=1e-9)
            assert (pair.sequence, pair.unit) == ("a", "m")
        damaged, lost = pair_set.problems
        assert "distortion" in damaged.reason
        assert "lost.jpg" in lost.reason


def test_matches_of_photographs_lie_on_the_lines_of_their_cameras(shared: Path) -> None:
    folder = shared / "data" / "strecha"
    pair_set = read_pairs(folder / "fountain-P11", recognise(folder))
    assert not pair_set.problems
    assert {pair.part for pair in pair_set.pairs} == {"0-20°", "20-40°", "40-60°"}
    pair = pair_set.pairs[0]
    sift, found = cv2.SIFT_create(1500), []
    for name in (pair.name0, pair.name1):
        found.append(
            sift.detectAndCompute(read_image(pair_set.folder / name, grayscale=True), None)
        )
    matches = cv2.BFMatcher(crossCheck=True).match(found[0][1], found[1][1])
    points0, points1 = (
        np.array([side[0][index].pt for index in indices])
        for side, indices in zip(
            found, zip(*((m.queryIdx, m.trainIdx) for m in matches), strict=True), strict=True
        )
    )
    fundamental = pair.true_fundamental
    assert fundamental is not None
    errors = sampson_errors(points0, points1, fundamental)
    assert np.median(errors[errors < 5]) < 0.5
    assert (errors < 1).sum() > 200
