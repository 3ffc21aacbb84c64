"""Layouts of relative-pose benchmarks: what is read back is what is true of the demo world."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.pairs.datasets import read_pairs, recognise
from benchmarks.pairs.pair_set import ImagePair, PairSet
from featplug.metrics.epipolar import epipolar_errors
from pipelines.datasets.demo import Pairs, make_demo_world
from pipelines.demo.pair_layouts import TruePair, TruePairs, intrinsics
from tests.benchmarks.pairs.conftest import PAIRS

LAYOUTS = get_args(Pairs)


@pytest.fixture(scope="session", params=LAYOUTS)
def read_back(request: pytest.FixtureRequest, world: Path) -> PairSet:
    """The pairs of each layout."""
    folder = make_demo_world(world, PAIRS, request.param)
    name = recognise(folder)
    expected = "pairs_file" if request.param == "pairs" else request.param.split("_")[0]
    assert name == expected
    return read_pairs(folder, name)


def _true_pair(pair: ImagePair, truth: TruePairs) -> TruePair:
    """Return the true pair by the names of its images, which each layout has in its own form."""
    views = [*truth.by_day, *truth.by_night]

    def view_of(name: str) -> str:
        stem = Path(name).stem
        if stem.startswith(("day", "night")):
            return f"images/{stem}.jpg"
        number = int(stem.removeprefix("frame-").removesuffix(".color"))
        return views[number // 15].name

    names = view_of(pair.name0), view_of(pair.name1)
    return next(p for p in truth.pairs if (p.view0.name, p.view1.name) == names)


def test_every_layout_has_the_true_cameras_and_poses(read_back: PairSet, truth: TruePairs) -> None:
    assert read_back.problems == []
    same_camera = [pair for pair in truth.pairs if pair.view0.camera == pair.view1.camera]
    is_scannet = read_back.name == "scannet1500"
    assert len(read_back.pairs) == len(same_camera if is_scannet else truth.pairs) > 5
    for pair in read_back.pairs:
        true = _true_pair(pair, truth)
        assert pair.intrinsics is not None
        np.testing.assert_allclose(pair.intrinsics, true.intrinsics, rtol=1e-12, atol=1e-10)
        assert pair.cam1_from_cam0 is not None
        np.testing.assert_allclose(pair.cam1_from_cam0, true.cam1_from_cam0[:3], atol=1e-10)
        assert pair.unit == ("m" if is_scannet else None)


def test_true_points_lie_on_their_epipolar_lines(read_back: PairSet, truth: TruePairs) -> None:
    numbers = {view.name: i for i, view in enumerate([*truth.by_day, *truth.by_night])}
    num_points = 0
    for pair in read_back.pairs:
        true = _true_pair(pair, truth)
        i, j = numbers[true.view0.name], numbers[true.view1.name]
        both = [track for track in truth.tracks if {i, j} <= set(track.views)]
        # COLMAP's coordinates to pixel centres at integers.
        points0, points1 = (
            np.array([track.xy[track.views.index(k)] for track in both]) - 0.5 for k in (i, j)
        )
        fundamental = pair.true_fundamental
        assert fundamental is not None
        assert epipolar_errors(points0, points1, fundamental).max() < 1e-6
        num_points += len(both)
    assert num_points > 100


@pytest.mark.parametrize("is_general", [False, True])
def test_lists_of_posed_images_say_the_same(world: Path, tmp_path: Path, is_general: bool) -> None:
    folder = make_demo_world(world, PAIRS, "megadepth1500")
    expected = read_pairs(folder, "megadepth1500").pairs
    images = "photographs" if is_general else "images"
    shutil.copytree(folder / "images", tmp_path / images)
    for name in ("views.txt", "pairs.txt"):
        text = (folder / name).read_text()
        if is_general:
            text = "".join(
                " ".join(f"photographs/{w}" if w.endswith(".jpg") else w for w in line.split())
                + "\n"
                for line in text.splitlines()
            )
        (tmp_path / name).write_text(text)
    layout = recognise(tmp_path)
    assert layout == ("pairs_file" if is_general else "megadepth1500")
    found = read_pairs(tmp_path, layout)
    assert found.problems == []
    for pair, other in zip(found.pairs, expected, strict=True):
        assert pair.name0 == other.name0.replace("images", images)
        np.testing.assert_allclose(pair.intrinsics, other.intrinsics, rtol=1e-12)
        np.testing.assert_allclose(pair.cam1_from_cam0, other.cam1_from_cam0, atol=1e-10)


def test_parts_and_sequences_are_those_of_the_release(world: Path, truth: TruePairs) -> None:
    def read(layout: Pairs) -> PairSet:
        folder = make_demo_world(world, PAIRS, layout)
        return read_pairs(folder, recognise(folder))

    assert {pair.part for pair in read("pairs").pairs} == {"viewpoint", "night"}
    assert {pair.sequence for pair in read("megadepth1500").pairs} == {"0015", "0022"}
    by_overlap = read("megadepth1500_loftr").pairs
    for pair in by_overlap:
        least, most = map(float, (pair.part or "").split("-"))
        assert least <= _true_pair(pair, truth).overlap <= most
    assert {pair.sequence for pair in by_overlap} == {"0015", "0022"}
    for layout in ("scannet1500", "scannet1500_superglue", "scannet1500_loftr"):
        assert {pair.sequence for pair in read(layout).pairs} == {"scene0707_00", "scene0708_00"}


def test_pairs_of_the_demo_world_see_enough_of_each_other(truth: TruePairs) -> None:
    overlaps = np.array([pair.overlap for pair in truth.pairs])
    assert overlaps.min() >= 0.1
    assert overlaps.max() <= 0.7
    assert np.ptp(overlaps) > 0.3  # easy pairs and hard ones
    assert {pair.part for pair in truth.pairs} == {"viewpoint", "night"}
    for pair in truth.pairs:
        is_night = [view in truth.by_night for view in pair[:2]]
        assert is_night == ([True, False] if pair.part == "night" else [False, False])


def test_intrinsics_of_the_demo_world_put_pixel_centres_at_integers(truth: TruePairs) -> None:
    camera = truth.by_day[0].camera
    ray = np.array([[0.1, -0.2, 1.0]])
    expected = camera.project(ray)[0] - 0.5
    np.testing.assert_allclose((intrinsics(camera) @ ray[0])[:2], expected, atol=1e-12)
