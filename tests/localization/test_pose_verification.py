"""Dense pose verification: scans rendered from poses look like what a camera there sees."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.file_localizer import LocalizedQuery, QueryMatches
from featplug.localization.pose_search import search_pose
from featplug.localization.pose_verification import (
    ColouredScan,
    PoseVerifier,
    render,
    rendering_distance,
)
from featplug.localization.queries import Query
from tests.scenes.pictures import textured_image

WIDTH, HEIGHT, FOCAL, DEPTH = 320, 240, 260.0, 4.0
CAMERA = pycolmap.Camera(
    model="SIMPLE_PINHOLE", width=WIDTH, height=HEIGHT, params=[FOCAL, WIDTH / 2, HEIGHT / 2]
)
AT_ORIGIN = np.eye(4)[:3]


def wall(seed: int) -> tuple[np.ndarray, ColouredScan]:
    """A picture, and the wall that it shows from the origin, 4 m away: a point for each pixel."""
    grey = textured_image(seed, WIDTH, HEIGHT)
    pixels = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1) + 0.5
    xy = (pixels - [WIDTH / 2, HEIGHT / 2]) / FOCAL * DEPTH
    points = np.concatenate([xy, np.full_like(xy[..., :1], DEPTH)], axis=-1)
    return grey, ColouredScan(points.reshape(-1, 3), grey.ravel())


def moved(turn: float = 0.0, right: float = 0.0) -> np.ndarray:
    """The pose of a camera turned about its vertical axis, and moved to the right."""
    rotation = Rotation.from_euler("y", -turn, degrees=True).as_matrix()
    return np.column_stack([rotation, -rotation @ [right, 0, 0]])


def test_a_scan_seen_from_its_own_place_is_its_picture() -> None:
    """To the pixel: half a pixel off would shift or blur it."""
    grey, scan = wall(0)
    image, mask = render(scan, AT_ORIGIN, CAMERA)
    assert mask.all()
    np.testing.assert_array_equal(image, grey)


def test_gaps_between_points_are_filled_and_the_rest_is_masked() -> None:
    grey, scan = wall(0)
    image, mask = render(scan, moved(right=1.5), CAMERA)
    covered = mask.mean(0)
    assert covered[: WIDTH // 2].min() == 1  # the wall ends in the right half
    assert covered[-60:].max() == 0
    half = ColouredScan(scan.points[::2], scan.grey[::2])
    image, mask = render(half, AT_ORIGIN, CAMERA)
    assert mask[1:-1, 1:-1].mean() > 0.95
    assert np.abs(image[mask].astype(float) - grey[mask]).mean() < 40


def test_what_is_behind_is_not_seen() -> None:
    grey, scan = wall(0)
    behind = ColouredScan(scan.points * 2, np.zeros_like(scan.grey))
    both = ColouredScan(
        np.concatenate([scan.points, behind.points]), np.concatenate([scan.grey, behind.grey])
    )
    image, _ = render(both, AT_ORIGIN, CAMERA)
    np.testing.assert_array_equal(image, grey)


@pytest.mark.parametrize("wrong", [{"right": 1.0}, {"turn": 20.0}, {"turn": 3.0}])
def test_the_true_pose_is_nearest(wrong: dict[str, float]) -> None:
    _, scan = wall(0)
    query, _ = render(scan, moved(turn=5, right=0.2), CAMERA)
    true = rendering_distance(query, *render(scan, moved(turn=5, right=0.2), CAMERA))
    other = rendering_distance(query, *render(scan, moved(**wrong), CAMERA))
    assert true < 0.1 < 0.5 < other


def test_a_rendering_of_too_little_is_not_compared() -> None:
    grey, scan = wall(0)
    assert rendering_distance(grey, *render(scan, moved(turn=60), CAMERA)) == np.inf
    flat = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert rendering_distance(flat, flat, np.ones((HEIGHT, WIDTH), bool)) == np.inf


def matches_with(
    names: list[str], poses: list[np.ndarray], nums: list[int], query: Query
) -> QueryMatches:
    """Exact matches, as if the query had another pose for each database image."""
    rng = np.random.default_rng(0)
    keypoints, points, supports = [], [], []
    for index, (pose, num) in enumerate(zip(poses, nums, strict=True)):
        xy = rng.uniform([20, 20], [WIDTH - 20, HEIGHT - 20], (num, 2))
        rays = np.column_stack([(xy + 0.5 - [WIDTH / 2, HEIGHT / 2]) / FOCAL, np.ones(num)])
        in_camera = rays * rng.uniform(3, 6, (num, 1))
        points.append((in_camera - pose[:, 3]) @ pose[:, :3])
        supports += [(len(supports) + k, index, k) for k in range(num)]
        keypoints.append(xy.astype(np.float32))
    return QueryMatches(
        query, names, nums, np.concatenate(keypoints), np.concatenate(points), np.array(supports)
    )


def test_the_pose_of_the_wall_that_is_seen_is_kept() -> None:
    """Most matches are with another wall, so that the pose of all matches is wrong."""
    grey, scan = wall(0)
    _, other = wall(1)
    query = Query("query.jpg", CAMERA)
    wrong = moved(turn=8, right=1.0)
    matches = matches_with(["right", "wrong"], [AT_ORIGIN, wrong], [40, 80], query)
    options = AbsolutePoseOptions(max_error=4.0)
    joint = search_pose(*matches.correspondences, CAMERA, options)
    assert joint is not None
    np.testing.assert_allclose(joint.cam_from_world, wrong, atol=1e-3)
    localized = LocalizedQuery(query, [(matches, joint)], 0)
    scans = {"right": scan, "wrong": other}
    verified = PoseVerifier(scans.__getitem__, lambda _: grey).verify(localized, options)
    assert verified.pose is not None
    np.testing.assert_allclose(verified.pose.cam_from_world, AT_ORIGIN, atol=1e-3)
    assert verified.pose.num_inliers >= 40
    best = min(verified.candidates, key=lambda candidate: candidate.distance)
    assert (best.image, best.is_joint) == ("right", False)
    assert [candidate.is_joint for candidate in verified.candidates].count(True) == 1


def test_without_a_scan_the_pose_stays() -> None:
    query = Query("query.jpg", CAMERA)
    matches = matches_with(["a"], [AT_ORIGIN], [60], query)
    options = AbsolutePoseOptions(max_error=4.0)
    joint = search_pose(*matches.correspondences, CAMERA, options)
    localized = LocalizedQuery(query, [(matches, joint)], 0)

    def damaged(name: str) -> ColouredScan:
        raise ValueError(f"Cannot read the scan of {name}.")

    grey, _ = wall(0)
    verified = PoseVerifier(damaged, lambda _: grey).verify(localized, options)
    assert verified.pose is joint
    assert not any(candidate.is_rendered for candidate in verified.candidates)
