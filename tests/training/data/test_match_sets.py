"""Match sets: matching keypoints show one point in two rendered views, the others do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featplug.extractors.sift import SIFT
from featplug.training.data.match_sets import MatchSetOptions, MatchSets, choose_match_set
from featplug.training.data.patch_groups import PatchGroups
from featplug.training.data.patch_views import PatchGroupOptions, render_view
from featplug.training.data.photographs import Photographs
from tests.conftest import interpolates_exactly
from tests.scenes.pictures import write_textured_images

OPTIONS = MatchSetOptions(
    num_keypoints=120, min_inliers=10, max_inliers=80, regional_size=64, scale_jitter=0,
    angle_jitter=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[PatchGroups, Photographs]:
    folder = tmp_path_factory.mktemp("sets")
    names = write_textured_images(folder / "photographs", 3, width=240, height=180)
    for _ in PatchGroups.make(
        folder / "photographs", folder / "g.h5", names, PatchGroupOptions(num_views=4), 0
    ):
        pass
    return PatchGroups(folder / "g.h5"), Photographs(folder / "photographs", names)


@interpolates_exactly
def test_inliers_match_and_noise_does_not(sources: tuple[PatchGroups, Photographs]) -> None:
    data = MatchSets(*sources, OPTIONS)
    for step in range(3):
        batch = data[step]
        assert batch["patches0"].shape == (2, 120, 32, 32)
        assert batch["image1"].shape == (2, 3, 64, 64)
        assert 0 <= batch["image1"].min() < batch["image1"].max() <= 1
        for item in range(2):
            inliers = batch["inliers"][item]
            count = int(inliers.sum())
            assert 10 <= count <= 80
            assert inliers[:count].all()
            patches0, patches1 = (batch[f"patches{k}"][item].flatten(1) for k in (0, 1))
            alike = (patches0 * patches1).mean(1)
            assert alike[inliers].median() > 0.6
            assert alike[~inliers].abs().median() < 0.4
            # A view's matching keypoints follow from the other's by one homography.
            points = [batch[f"positions{k}"][item][inliers].double().numpy() for k in (0, 1)]
            assert homography_error(*points) < 0.02


def test_views_are_rendered_as_they_were_detected_in(
    sources: tuple[PatchGroups, Photographs],
) -> None:
    groups, photographs = sources
    assert groups.photometric == PatchGroupOptions().photometric
    image, _ = photographs.read(0)
    frames, views, warps, seeds = groups.read(
        photographs.names[0], "frames", "views", "homographies", "seeds"
    )
    view = render_view(image, warps[2], int(seeds[2]), groups.photometric)
    detected = SIFT({"max_keypoints": PatchGroupOptions().max_keypoints}).detect(view)
    found = {tuple(point) for point in detected["keypoints"].tolist()}
    assert {tuple(point) for point in frames[views == 2, :2].tolist()} <= found


def homography_error(points0: np.ndarray, points1: np.ndarray) -> float:
    """Median distance after the homography that fits best in the algebraic sense."""
    ones = np.ones((len(points0), 1))
    homogeneous, zeros = np.hstack([points0, ones]), np.zeros((len(points0), 3))
    x, y = points1[:, :1], points1[:, 1:]
    equations = np.vstack(
        [
            np.hstack([homogeneous, zeros, -x * homogeneous]),
            np.hstack([zeros, homogeneous, -y * homogeneous]),
        ]
    )
    mapped = homogeneous @ np.linalg.svd(equations)[2][-1].reshape(3, 3).T
    return float(np.median(np.linalg.norm(mapped[:, :2] / mapped[:, 2:] - points1, axis=1)))


def test_moved_positions_are_a_homography_away(sources: tuple[PatchGroups, Photographs]) -> None:
    batch = MatchSets(*sources, OPTIONS)[0]
    for item in range(2):
        plain, moved = (batch[key][item].double().numpy() for key in
                        ("positions0", "moved_positions0"))  # fmt: skip
        assert 0.02 < np.linalg.norm(moved - plain, axis=1).mean() < 0.45
        assert homography_error(plain, moved) < 1e-5
    still = MatchSets(*sources, replace(OPTIONS, corner_noise=0.0))[0]
    torch.testing.assert_close(still["positions0"], still["moved_positions0"])


def test_a_step_is_a_step(sources: tuple[PatchGroups, Photographs]) -> None:
    first, again = (MatchSets(*sources, OPTIONS, seed=2)[4] for _ in range(2))
    other = MatchSets(*sources, OPTIONS, seed=3)[4]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["patches0"], other["patches0"])


def test_jitter_changes_patches_only(sources: tuple[PatchGroups, Photographs]) -> None:
    plain = MatchSets(*sources, OPTIONS)[0]
    jittered = MatchSets(*sources, replace(OPTIONS, scale_jitter=0.15, angle_jitter=5.0))[0]
    assert torch.equal(plain["positions0"], jittered["positions0"])
    alike = (plain["patches0"] * jittered["patches0"]).mean((2, 3))
    assert 0.5 < alike.median() < 0.999


def test_patches_of_a_pyramid_show_the_same_without_aliasing(
    sources: tuple[PatchGroups, Photographs],
) -> None:
    plain, smooth = (
        MatchSets(*sources, replace(OPTIONS, pyramid=pyramid))[0] for pyramid in (False, True)
    )
    assert torch.equal(plain["positions0"], smooth["positions0"])
    assert 0.8 < (plain["patches0"] * smooth["patches0"]).mean((2, 3)).median() < 0.9999
    inliers = plain["inliers"]
    likenesses = [
        (batch["patches0"] * batch["patches1"]).mean((2, 3))[inliers].mean()
        for batch in (plain, smooth)
    ]
    assert likenesses[1] > likenesses[0]


@pytest.mark.parametrize(
    ("groups0", "groups1", "inliers"),
    [([0, 1, -1], [1, 0, 2, -1], 2), ([0, 1], [0, 1], 1), ([0, -1, -1], [3, 0], 1)],
)
def test_few_keypoints(groups0: list[int], groups1: list[int], inliers: int) -> None:
    groups = np.array(groups0 + groups1)
    views = np.repeat([1, 3], [len(groups0), len(groups1)])
    options = MatchSetOptions(num_keypoints=8)
    chosen, count = choose_match_set(groups, views, (1, 3), options, np.random.default_rng(0))
    assert count == inliers
    for view, rows in zip((1, 3), chosen, strict=True):
        assert len(rows) == 8
        assert (views[rows] == view).all()
        assert not np.isin(rows[inliers:], rows[:inliers]).any()
    assert (groups[chosen[0][:inliers]] == groups[chosen[1][:inliers]]).all()


def test_bad_input(sources: tuple[PatchGroups, Photographs], tmp_path: Path) -> None:
    groups, photographs = sources
    with pytest.raises(ValueError, match=r"g\.h5.*min_inliers"):
        MatchSets(groups, photographs, replace(OPTIONS, min_inliers=9999))
    with pytest.raises(ValueError, match=r"g\.h5.*x\.png"):
        MatchSets(groups, Photographs(photographs.folder, ["x.png"]))
    with pytest.raises(ValueError, match=r"g\.h5.*1024 px, not 100"):
        MatchSets(groups, Photographs(photographs.folder, photographs.names, max_side=100))
