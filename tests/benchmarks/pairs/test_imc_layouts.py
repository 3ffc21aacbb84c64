"""PhotoTourism, IMC 2022, ETH3D, WxBS and EVD: what is read back is true of the demo world."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.pairs.datasets import read_pairs, recognise
from benchmarks.pairs.datasets.eth3d_pairs import MIN_COMMON_POINTS
from benchmarks.pairs.pair_set import ImagePair, PairSet
from featplug.metrics.epipolar import epipolar_errors
from featplug.metrics.homography import project
from pipelines.datasets.demo import DemoOptions, PosedScenes, make_demo_world
from pipelines.demo.geometry import View
from pipelines.demo.pair_layouts import TruePairs, intrinsics
from tests.benchmarks.pairs.conftest import PAIRS

POSED = tuple(name for name in get_args(PosedScenes) if name != "wxbs")


def read(world: Path, layout: PosedScenes) -> PairSet:
    folder = make_demo_world(world, PAIRS, layout)
    assert recognise(folder) == layout
    pair_set = read_pairs(folder, layout)
    assert pair_set.problems == []
    return pair_set


@pytest.fixture(scope="session", params=POSED)
def read_back(request: pytest.FixtureRequest, world: Path) -> PairSet:
    """The pairs of each layout with poses."""
    return read(world, request.param)


def views_of(pair: ImagePair, truth: TruePairs) -> tuple[View, View]:
    of_name = {Path(view.name).stem: view for view in [*truth.by_day, *truth.by_night]}
    return of_name[Path(pair.name0).stem], of_name[Path(pair.name1).stem]


def test_cameras_and_poses_are_the_true_ones(read_back: PairSet, truth: TruePairs) -> None:
    assert len(read_back.pairs) > 5
    for pair in read_back.pairs:
        assert pair.sequence == "town"
        views = views_of(pair, truth)
        assert pair.intrinsics is not None
        assert pair.cam1_from_cam0 is not None
        expected = [intrinsics(view.camera) for view in views]
        np.testing.assert_allclose(pair.intrinsics, expected, rtol=1e-12, atol=1e-9)
        pose0, pose1 = (np.vstack([view.cam_from_world, [0, 0, 0, 1]]) for view in views)
        true = (pose1 @ np.linalg.inv(pose0))[:3]
        np.testing.assert_allclose(pair.cam1_from_cam0, true, atol=1e-9)
        assert pair.unit == (None if read_back.name == "phototourism" else "m")


def test_true_points_lie_on_their_epipolar_lines(read_back: PairSet, truth: TruePairs) -> None:
    numbers = {view.name: i for i, view in enumerate([*truth.by_day, *truth.by_night])}
    num_points = 0
    for pair in read_back.pairs:
        i, j = (numbers[view.name] for view in views_of(pair, truth))
        both = [track for track in truth.tracks if {i, j} <= set(track.views)]
        # COLMAP's coordinates to pixel centres at integers.
        points0, points1 = (
            np.array([t.xy[t.views.index(k)] for t in both]).reshape(-1, 2) - 0.5 for k in (i, j)
        )
        fundamental = pair.true_fundamental
        assert fundamental is not None
        assert epipolar_errors(points0, points1, fundamental).max(initial=0) < 1e-6
        num_points += len(both)
    assert num_points > 100


@pytest.mark.parametrize("layout", ["phototourism", "imc2022"])
def test_pairs_are_those_of_enough_covisibility(
    world: Path, truth: TruePairs, layout: PosedScenes
) -> None:
    expected = {
        tuple(sorted((Path(pair.view0.name).stem, Path(pair.view1.name).stem), reverse=True))
        for pair in truth.pairs
    }
    found = [(Path(p.name0).stem, Path(p.name1).stem) for p in read(world, layout).pairs]
    assert len(found) == len(expected)
    assert set(found) == expected


def test_pairs_of_eth3d_see_enough_common_points(world: Path) -> None:
    pair_set = read(world, "eth3d_pairs")
    calibration = pair_set.folder / "town" / "dslr_calibration_undistorted"
    lines = (calibration / "images.txt").read_text().splitlines()[4:]
    seen = {
        line.split()[9]: {int(word) for word in points.split()[2::3]} - {-1}
        for line, points in zip(lines[::2], lines[1::2], strict=True)
    }
    names = sorted(seen)
    expected = [
        (f"town/images/{a}", f"town/images/{b}")
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if len(seen[a] & seen[b]) >= MIN_COMMON_POINTS
    ]
    assert [(pair.name0, pair.name1) for pair in pair_set.pairs] == expected
    assert 0 < len(expected) < len(names) * (len(names) - 1) / 2


@pytest.mark.parametrize("layout", POSED)
def test_a_scene_alone_is_read_as_one_of_many(world: Path, layout: PosedScenes) -> None:
    whole = read(world, layout)
    scene = whole.folder / "town"
    assert recognise(scene) == layout
    alone = read_pairs(scene, layout)
    assert alone.problems == []
    assert [f"town/{pair.name0}" for pair in alone.pairs] == [pair.name0 for pair in whole.pairs]
    assert {pair.sequence for pair in alone.pairs} == {"town"}
    assert {pair.unit for pair in alone.pairs} == {pair.unit for pair in whole.pairs}


def test_correspondences_of_wxbs_are_true_points(world: Path, truth: TruePairs) -> None:
    pair_set = read(world, "wxbs")
    assert {pair.part for pair in pair_set.pairs} == {"WGBS", "WGALBS"}
    assert len(pair_set.pairs) == len(truth.pairs)
    for pair, true in zip(
        sorted(pair_set.pairs, key=lambda p: p.sequence.split("/")[1]),
        sorted(truth.pairs, key=lambda p: "-".join(sorted(Path(v.name).stem for v in p[:2])[::-1])),
        strict=True,
    ):
        posed = ImagePair(
            "a", "b", "", intrinsics=true.intrinsics, cam1_from_cam0=true.cam1_from_cam0[:3]
        )
        corrs, fundamental = pair.correspondences, posed.true_fundamental
        assert corrs is not None
        assert fundamental is not None
        assert epipolar_errors(corrs[:, :2], corrs[:, 2:], fundamental).max() < 1e-6


def test_homographies_of_evd_map_pixels(tmp_path: Path) -> None:
    folder = make_demo_world(tmp_path, DemoOptions(num_planes=2, image_size=160), "evd")
    assert recognise(folder) == "evd"
    pair_set = read_pairs(folder, "evd")
    assert pair_set.problems == []
    assert [pair.name0.split("/")[0] + pair.name1.split("/")[0] for pair in pair_set.pairs] == [
        "12",
        "12",
    ]
    for pair in pair_set.pairs:
        released = np.loadtxt(tmp_path / "hpatches" / f"v_{pair.sequence}" / "H_1_6")
        points = np.array([[10.0, 20.0], [100.0, 90.0]])
        assert pair.homography is not None
        np.testing.assert_allclose(project(points, pair.homography), project(points, released))
