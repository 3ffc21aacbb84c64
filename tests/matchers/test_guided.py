"""Guided matching: true matches beyond the strongest keypoints, and no others off their lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from featplug.base import Matcher
from featplug.matchers.guidance import LEAST_BAND, Epipolar, Planar, estimate_guidance
from featplug.matchers.guided import GuidedMatcher, guided
from featplug.methods import build_matcher, matcher_conf
from featplug.metrics.epipolar import sampson_errors
from featplug.metrics.homography import homography_errors

SIZE = np.array([1600, 1200])
CALIBRATION = np.array([[1400.0, 0, 800], [0, 1400, 600], [0, 0, 1]])
STRONGEST = 600
SIDEWAYS, FORWARD, GENERAL = [1.5, 0, 0], [0, 0, 1.5], [1.0, 0.3, 0.5]


@dataclass(frozen=True)
class Views:
    """Two images of points in space, each with further keypoints of its own."""

    points: tuple[np.ndarray, np.ndarray]
    features: tuple[dict[str, Tensor], dict[str, Tensor]]
    fundamental: np.ndarray
    homography: np.ndarray
    """Maps the plane of :func:`views`."""
    num_shared: int
    """Number of the first keypoints of both images that match, one by one."""


def views(
    seed: int,
    translation: list[float],
    num_shared: int = 1500,
    num_own: int = 1000,
    plane: bool = False,
    repeated: int = 1,
    noise: float = 0.5,
    distortion: float = 0.0,
) -> Views:
    """Make images; ``repeated`` points each look almost alike.

    ``noise`` is that of keypoints in pixels, ``distortion`` the coefficient k of r (1 + k r²).
    """
    rng = np.random.default_rng(seed)
    rotation = Rotation.from_rotvec([0, 0, 0.02] if translation == FORWARD else [0, -0.1, 0.02])
    turn = rotation.as_matrix() if translation != SIDEWAYS else np.eye(3)
    depths = np.full(num_shared, 8.0) if plane else rng.uniform(5, 15, num_shared)
    pixels = rng.random((num_shared, 2)) * SIZE
    rays = np.column_stack([pixels, np.ones(num_shared)]) @ np.linalg.inv(CALIBRATION).T
    in_camera1 = (rays * depths[:, None]) @ turn.T + translation
    mapped = in_camera1 @ CALIBRATION.T
    centre, focal = CALIBRATION[:2, 2], CALIBRATION[0, 0]
    seen = []
    for place in (pixels, mapped[:, :2] / mapped[:, 2:]):
        rays = (place - centre) / focal
        factors = 1 + distortion * (rays**2).sum(1, keepdims=True)
        seen.append(place if distortion == 0 else centre + focal * factors * rays)
    strength = rng.random(num_shared)
    looks = np.repeat(rng.standard_normal((128, -(-num_shared // repeated))), repeated, axis=1)
    sides, points = [], []
    for place in seen:
        noisy = place + noise * rng.standard_normal(place.shape)
        points.append(np.concatenate([noisy, rng.random((num_own, 2)) * SIZE]))
        drawn = rng.standard_normal((128, num_shared + num_own))
        drawn[:, :num_shared] = looks[:, :num_shared] + 0.3 * rng.standard_normal((128, num_shared))
        drawn /= np.linalg.norm(drawn, axis=0)
        own = rng.random(num_own)
        scores = np.concatenate([strength + 0.02 * rng.standard_normal(num_shared), own])
        if repeated > 1:  # what is strong is distinctive
            scores[:num_shared:repeated] += 1
        sides.append(
            {
                "keypoints": torch.from_numpy(points[-1]).float(),
                "scores": torch.from_numpy(scores).float(),
                "descriptors": torch.from_numpy(drawn).float(),
            }
        )
    inverse = np.linalg.inv(CALIBRATION)
    x, y, z = translation
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    normal = np.outer(translation, [0, 0, 1 / 8.0])
    return Views(
        (points[0], points[1]),
        (sides[0], sides[1]),
        inverse.T @ cross @ turn @ inverse,
        CALIBRATION @ (turn + normal) @ inverse,
        num_shared,
    )


def nearest(name: str = "NN-ratio") -> Matcher:
    return build_matcher(matcher_conf(name)["model"])


def matched(matcher: Matcher, scene: Views) -> np.ndarray:
    """Indices of the matches, K×2."""
    matches0 = matcher.match_pair(*scene.features)["matches0"].numpy()
    (rows,) = np.nonzero(matches0 >= 0)
    return np.column_stack([rows, matches0[rows]])


def strongest(scene: Views, matches: np.ndarray) -> np.ndarray:
    """Whether both keypoints of each match K×2 are among the strongest: K bool."""
    ranks = [torch.argsort(torch.argsort(-side["scores"])).numpy() for side in scene.features]
    return (ranks[0][matches[:, 0]] < STRONGEST) & (ranks[1][matches[:, 1]] < STRONGEST)


def num_right(matches: np.ndarray, scene: Views) -> int:
    same = matches[:, 0] == matches[:, 1]
    return int(np.count_nonzero(same & (matches[:, 0] < scene.num_shared)))


@pytest.mark.parametrize("name", ["NN-ratio", "NN-mutual", "NN-mutual-l2"])
@pytest.mark.parametrize("translation", [SIDEWAYS, FORWARD, GENERAL], ids=str)
def test_finds_the_true_matches_and_adds_none_off_the_epipolar_lines(
    name: str, translation: list[float]
) -> None:
    scene = views(0, translation)
    matches = matched(GuidedMatcher(nearest(name), STRONGEST), scene)
    assert num_right(matches, scene) > 0.97 * scene.num_shared
    further = matches[~strongest(scene, matches)]
    assert num_right(further, scene) > 0.98 * len(further)
    errors = sampson_errors(
        scene.points[0][further[:, 0]], scene.points[1][further[:, 1]], scene.fundamental
    )
    # Of the true lines; the estimated ones are a little off, above all near an epipole.
    assert np.quantile(errors, 0.99) < LEAST_BAND
    assert errors.max() < 3 * LEAST_BAND


@pytest.mark.parametrize("name", ["NN-ratio", "NN-mutual"])
@pytest.mark.parametrize(
    ("distortion", "noise", "plane"),
    [(-0.15, 0.5, False), (-0.3, 0.5, False), (0.2, 0.5, False), (0, 3, False), (-0.3, 2, True)],
)
def test_distortion_and_noise_cost_no_right_matches(
    distortion: float, noise: float, plane: bool, name: str
) -> None:
    """Whether a match fits is for a stage to decide that knows the camera."""
    scene = views(9, GENERAL, distortion=distortion, noise=noise, plane=plane)
    matcher = nearest(name)
    whole, near = matched(matcher, scene), matched(GuidedMatcher(matcher, STRONGEST), scene)
    assert num_right(near, scene) >= 0.97 * num_right(whole, scene) > 1000
    assert len(near) - num_right(near, scene) <= len(whole) - num_right(whole, scene)


def test_wrong_matches_of_the_strongest_keypoints_give_way_to_nearer_neighbours_only() -> None:
    scene = views(10, SIDEWAYS)
    strong = [torch.argsort(side["scores"])[-STRONGEST:] for side in scene.features]
    matcher = nearest("NN-mutual")
    selected = [
        matcher.select(side, keep) for side, keep in zip(scene.features, strong, strict=True)
    ]
    result = matcher.match_pair(selected[0], selected[1])
    (rows,) = np.nonzero(result["matches0"].numpy() >= 0)
    first = np.column_stack(
        [strong[0].numpy()[rows], strong[1].numpy()[result["matches0"].numpy()[rows]]]
    )
    assert num_right(first, scene) < 0.9 * len(first)
    matches = matched(GuidedMatcher(matcher, STRONGEST), scene)
    similarity = scene.features[0]["descriptors"].t() @ scene.features[1]["descriptors"]
    for row, column in first:
        nearest_of = matches[(matches[:, 0] == row) | (matches[:, 1] == column)]
        assert len(nearest_of)
        assert similarity[nearest_of[:, 0], nearest_of[:, 1]].max() >= similarity[row, column]


def test_finds_points_that_look_alike_where_the_geometry_tells_them_apart() -> None:
    scene = views(1, GENERAL, repeated=2)
    whole, near = matched(nearest(), scene), matched(GuidedMatcher(nearest(), 1000), scene)
    assert num_right(whole, scene) < 0.3 * scene.num_shared
    assert num_right(near, scene) > 0.7 * scene.num_shared
    assert num_right(near, scene) > 0.98 * len(near)


def test_a_plane_guides_by_its_homography() -> None:
    scene = views(2, GENERAL, plane=True)
    shared = [points[:600] for points in scene.points]
    guidance, evidence = estimate_guidance(*shared)
    assert isinstance(guidance, Planar)
    assert evidence is not None
    matches = matched(GuidedMatcher(nearest("NN-mutual"), STRONGEST), scene)
    assert num_right(matches, scene) > 0.97 * scene.num_shared
    further = matches[~strongest(scene, matches)]
    errors = homography_errors(
        scene.points[0][further[:, 0]], scene.points[1][further[:, 1]], scene.homography
    )
    assert errors.max() < LEAST_BAND + 2
    # With some points off the plane, these say where the epipolar lines are.
    other = views(3, GENERAL)
    mixed = [np.concatenate([s, o[:60]]) for s, o in zip(shared, other.points, strict=True)]
    assert isinstance(estimate_guidance(*mixed)[0], Epipolar)


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize("translation", [SIDEWAYS, FORWARD, GENERAL], ids=str)
def test_blocks_have_all_matches_that_are_possible(translation: list[float], plane: bool) -> None:
    """An epipole in the image, outside it, and at infinity."""
    scene = views(4, translation, plane=plane)
    guidance = Planar(scene.homography) if plane else Epipolar(scene.fundamental)
    places = np.zeros((2, len(scene.points[0])), bool)
    sizes = []
    for rows, columns in guidance.blocks(*scene.points):
        assert not places[0, rows].any()  # a keypoint is in one block
        places[0, rows] = True
        places[1, rows] = np.isin(rows, columns)
        sizes.append(len(rows) * len(columns))
    possible = guidance.errors(*scene.points)[: scene.num_shared] <= LEAST_BAND
    inside = ((scene.points[1] >= 0) & (scene.points[1] < SIZE)).all(1)[: scene.num_shared]
    assert places[1, : scene.num_shared][possible & inside].all()
    assert sum(sizes) < 0.4 * len(scene.points[0]) * len(scene.points[1])


def test_one_block_of_all_keypoints_is_plain_matching() -> None:
    scene = views(5, GENERAL)
    for name in ("NN-ratio", "NN-mutual", "NN-mutual-l2"):
        matcher = nearest(name)
        everything = tuple(torch.arange(len(points)) for points in scene.points)
        plain = matcher.match(*scene.features)
        blocks = matcher.match_blocks(*scene.features, [everything])  # type: ignore[operator]
        assert torch.equal(plain["matches0"], blocks["matches0"])
        torch.testing.assert_close(plain["matching_scores0"], blocks["matching_scores0"])


@pytest.mark.parametrize("without", ["", "scores", "keypoints"])
def test_few_keypoints_or_ones_without_scores_are_matched_as_before(without: str) -> None:
    scene = views(6, GENERAL)
    sides = [
        {key: value for key, value in side.items() if key != without} for side in scene.features
    ]
    strongest = STRONGEST if without else len(scene.points[0]) // 2
    result = GuidedMatcher(nearest(), strongest).match_pair(*sides)
    plain = nearest().match_pair(*sides)
    for key, value in plain.items():
        assert torch.equal(result[key], value)


def test_without_a_geometry_only_the_strongest_keypoints_are_matched() -> None:
    scene = views(7, GENERAL)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(scene.points[1])))
    shuffled = {**scene.features[1], "keypoints": scene.features[1]["keypoints"][order]}
    result = GuidedMatcher(nearest("NN-mutual"), STRONGEST).match_pair(scene.features[0], shuffled)
    (rows,) = np.nonzero(result["matches0"].numpy() >= 0)
    strong = [torch.argsort(side["scores"])[-STRONGEST:].numpy() for side in scene.features]
    assert 100 < len(rows) <= STRONGEST
    assert np.isin(rows, strong[0]).all()
    assert np.isin(result["matches0"].numpy()[rows], strong[1]).all()


def test_of_a_weak_pair_all_keypoints_are_matched() -> None:
    """A dozen matches of the strongest keypoints are too few for a geometry, but not for a try."""
    scene = views(8, GENERAL, num_shared=50, num_own=2500)
    strong = [torch.argsort(side["scores"])[-STRONGEST:] for side in scene.features]
    seeds = np.intersect1d(*strong)
    assert 8 <= np.count_nonzero(seeds < scene.num_shared) <= 14
    assert num_right(matched(GuidedMatcher(nearest(), STRONGEST), scene), scene) >= 48


def test_only_matchers_with_a_second_step_are_guided() -> None:
    plain = nearest()
    assert guided(plain, -1) is plain
    lisrd = build_matcher(matcher_conf("lisrd")["model"])
    assert guided(lisrd, STRONGEST) is lisrd
    matcher = guided(plain, STRONGEST)
    added = {"strongest": STRONGEST, "least_band": LEAST_BAND}
    assert matcher.settings == {**plain.settings, **added}
    assert matcher.revisions.items() >= plain.revisions.items()
    for number in (0, -2):
        with pytest.raises(ValueError, match=rf"strongest must be 1 or more, or -1 .*{number}"):
            guided(plain, number)
