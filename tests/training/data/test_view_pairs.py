"""Pairs: same step, same batch; labels and correspondences lie where the homography says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.training.data.batches import load_ahead
from featplug.training.data.homographies import warp_points
from featplug.training.data.photographs import Photographs
from featplug.training.data.teacher import TeacherKeypoints
from featplug.training.data.view_pairs import (
    HomographyPairOptions,
    HomographyPairs,
    MTLDescPairOptions,
    MTLDescPairs,
    keypoint_heatmap,
    select_points,
)
from tests.conftest import interpolates_exactly
from tests.scenes.pictures import write_photographs, write_teacher

SIZES = [(200, 150), (120, 160), (300, 130), (90, 90), (160, 160)]
OPTIONS = MTLDescPairOptions(batch_size=3, size=(96, 112), num_points=60, grid=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    names = write_photographs(folder, SIZES)
    write_teacher(folder / "teacher.h5", names, SIZES)
    return folder


@pytest.fixture(scope="module")
def photographs(folder: Path) -> Photographs:
    return Photographs(folder, [f"photo{i}.png" for i in range(len(SIZES))])


def mtldesc(folder: Path, photographs: Photographs, **changes: object) -> MTLDescPairs:
    options = replace(OPTIONS, **changes)  # type: ignore[arg-type]
    return MTLDescPairs(photographs, TeacherKeypoints(folder / "teacher.h5"), options)


@pytest.mark.slow
def test_a_step_is_the_same_in_any_process_and_order(
    folder: Path, photographs: Photographs
) -> None:
    pairs = mtldesc(folder, photographs)
    expected = {step: pairs[step] for step in (7, 2)}
    for step, batch in zip((2, 7), load_ahead(pairs, [2, 7], num_workers=2), strict=True):
        assert batch.keys() == expected[step].keys()
        for key, value in batch.items():
            torch.testing.assert_close(value, expected[step][key], rtol=0, atol=1e-5)
    assert not torch.equal(expected[2]["image0"], expected[7]["image0"])
    other = MTLDescPairs(photographs, pairs.teacher, OPTIONS, seed=1)
    assert not torch.equal(other[2]["image0"], expected[2]["image0"])


def test_a_plan_rendered_elsewhere_is_the_batch(folder: Path, photographs: Photographs) -> None:
    batch = mtldesc(folder, photographs)[3]
    plans = MTLDescPairs(
        photographs, TeacherKeypoints(folder / "teacher.h5"), OPTIONS, rendered=False
    )
    for key, value in plans.render(plans[3]).items():
        assert torch.equal(value, batch[key])


def test_each_photograph_once_per_round(folder: Path, photographs: Photographs) -> None:
    options = HomographyPairOptions(batch_size=1, size=(64, 64), zoom=(1, 1))
    pairs = HomographyPairs(photographs, options)
    colours = [pairs[step]["image0"].mean((0, 2, 3)) for step in range(10)]
    sums = torch.stack(colours)
    whole = torch.stack(
        [torch.tensor(photographs.read(i)[0]).float().mean((0, 1)) / 255 for i in range(5)]
    )
    found = [int((sums[i] - whole).norm(dim=1).argmin()) for i in range(10)]
    assert len(set(found[:5])) >= 4  # a view's mean is only near that of its photograph
    assert found[:5] != found[5:]


@interpolates_exactly
def test_mtldesc_batch(folder: Path, photographs: Photographs) -> None:
    pairs = mtldesc(folder, photographs, identity_probability=0.4, photometric_probability=0.0)
    identities = 0
    for step in range(8):
        batch = pairs[step]
        assert batch["image0"].shape == batch["image1"].shape == (3, 3, 96, 112)
        assert batch["points0"].shape == batch["points1"].shape == (3, 60, 2)
        limits = torch.tensor([111.0, 95.0])
        assert bool(((batch["points0"] >= 0) & (batch["points0"] <= limits)).all())
        warped = warp_points(batch["points0"], batch["homography"])
        seen = ((warped >= 0) & (warped <= limits)).all(-1)
        assert torch.equal(batch["valid"], seen)
        torch.testing.assert_close(batch["points1"][seen], warped[seen])
        distances = (warped[:, :, None] - warped[:, None]).norm(dim=-1)
        clear = (distances - 16).abs() > 1e-2
        expected = ~((distances > 16) & seen[:, None] & seen[..., None])
        assert torch.equal(batch["excluded"][clear], expected[clear])
        for i in range(3):
            if torch.equal(batch["homography"][i], torch.eye(3)):
                identities += 1
                torch.testing.assert_close(batch["image0"][i], batch["image1"][i])
                assert torch.equal(batch["heatmap0"][i], batch["heatmap1"][i])
                assert batch["heatmap_valid1"][i].all()
        assert not batch["heatmap1"][~batch["heatmap_valid1"]].any()
        assert not batch["image1"].amax(1)[~batch["heatmap_valid1"]].any()
    assert 4 <= identities <= 16


def test_image_1_shows_what_lies_at_the_points_of_image_0(photographs: Photographs) -> None:
    """Bilinear values at a point and at its match agree, in the smooth parts of the photograph."""
    options = HomographyPairOptions(batch_size=5, size=(96, 112))
    batch = HomographyPairs(photographs, options)[0]
    points = torch.rand(5, 400, 2, generator=torch.Generator().manual_seed(0))
    points0 = points * torch.tensor([111.0, 95.0])
    points1 = warp_points(points0, batch["homography"])
    scale = torch.tensor([111.0, 95.0])

    def at(images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        grid = 2 * places[:, None] / scale - 1
        return torch.nn.functional.grid_sample(images, grid, align_corners=True)[:, :, 0]

    inside = ((points1 >= 1) & (points1 <= scale - 1)).all(-1)
    assert float(inside.float().mean()) > 0.4
    error = (at(batch["image0"], points0) - at(batch["image1"], points1)).abs().amax(1)[inside]
    assert float(error.median()) < 0.01
    assert float(error.quantile(0.9)) < 0.08


def test_labels_are_the_teachers_keypoints(folder: Path, photographs: Photographs) -> None:
    pairs = mtldesc(folder, photographs)
    sample = pairs.plan(0)
    batch = pairs.render(sample)
    for i in range(3):
        rows, columns = torch.nonzero(batch["heatmap0"][i], as_tuple=True)
        keypoints = sample["keypoints"][i]
        pixels = {tuple(p) for p in keypoints[~keypoints.isnan().any(1)].round().int().tolist()}
        inside = {(x, y) for x, y in pixels if 0 <= x < 112 and 0 <= y < 96}
        assert set(zip(columns.tolist(), rows.tolist(), strict=True)) == inside


def test_a_missing_photograph_is_named(folder: Path, tmp_path: Path) -> None:
    names = write_photographs(tmp_path, [(80, 80), (80, 80)])
    write_teacher(tmp_path / "teacher.h5", names[:1], [(80, 80)])
    teacher = TeacherKeypoints(tmp_path / "teacher.h5")
    with pytest.raises(ValueError, match=r"teacher\.h5.*1 of 2.*photo1"):
        MTLDescPairs(Photographs(tmp_path, names), teacher)
    with pytest.raises(ValueError, match="photographs"):
        HomographyPairs(Photographs(tmp_path, []), HomographyPairOptions())


def test_heatmap_rounds_and_leaves_out() -> None:
    keypoints = torch.tensor(
        [[[0.4, 1.6], [3.4, 2.4], [-0.6, 0], [4.0, 0.0], [torch.nan, torch.nan]]]
    )
    heatmap = keypoint_heatmap(keypoints, (3, 4))
    assert torch.nonzero(heatmap).tolist() == [[0, 2, 0], [0, 2, 3]]


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_select_points(count: int) -> None:
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(-20, 120, (count, 2))
    scores = rng.random(count)
    options = MTLDescPairOptions(size=(100, 100), grid=20, nms_radius=4, num_points=80)
    points = select_points(keypoints, scores, options, rng)
    assert points.shape == (80, 2)
    assert ((points >= 0) & (points <= 99)).all()
    inside = ((keypoints >= 0) & (keypoints <= 99)).all(1)
    chosen = (points[:, None] == keypoints).all(-1).any(1)
    assert chosen.sum() <= inside.sum()
    assert not chosen[chosen.sum() :].any()  # keypoints first
    if inside.any():
        best = keypoints[np.flatnonzero(inside)[scores[inside].argmax()]]
        np.testing.assert_array_equal(points[0], best)
    own = points[chosen]
    apart = np.abs(own[:, None] - own).max(-1) + 100 * np.eye(len(own))
    assert (apart > 4).all()
    cells = (points // 5).astype(int)
    assert len(np.unique(cells, axis=0)) == 80
