"""Confidence in poses: which it accepts, and why it does not accept others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.localization.absolute_pose import AbsolutePose, AbsolutePoseOptions
from featplug.localization.confidence import LEAST_CONFIDENCE, PoseEvidence, confidence
from featplug.localization.pose_fits import project_points
from featplug.localization.pose_search import search_pose
from featplug.metrics.poses import camera_centres

CAMERA = pycolmap.Camera(model="PINHOLE", width=640, height=480, params=[500, 500, 320, 240])
TRUE = np.column_stack(
    [Rotation.from_euler("xyz", [5, 20, -3], degrees=True).as_matrix(), [1, 0, 2]]
)
OTHER = np.column_stack([Rotation.from_euler("y", 90, degrees=True).as_matrix(), [-4, 1, 9]])
EVIDENCE = PoseEvidence(200, 150, -200.0, num_places=30, instability=0.001)


def seen_points(
    rng: np.random.Generator, pose: np.ndarray, num: int, high: float = 1.0, noise: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Points at depths of 4 to 12 whose projections by a pose lie in a part of the image."""
    points2d = rng.uniform(0, high, (num, 2)) * (639, 479)
    rays = np.column_stack([(points2d + 0.5 - (320, 240)) / 500, np.ones(num)])
    in_camera = rays * rng.uniform(4, 12, (num, 1))
    points3d = (in_camera - pose[:, 3]) @ pose[:, :3]
    np.testing.assert_allclose(project_points(points3d, pose, CAMERA), points2d, atol=1e-6)
    return points2d + rng.normal(0, noise, (num, 2)), points3d


def wrong_matches(rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0, 1, (num, 2)) * (639, 479), rng.uniform(-10, 10, (num, 3))


def search(*of_images: tuple[np.ndarray, np.ndarray], seed: int = 0) -> AbsolutePose | None:
    """Search the pose from the matches of each image, its keypoints and points."""
    points2d, points3d = (np.concatenate(each) for each in zip(*of_images, strict=True))
    ends = np.cumsum([len(each) for each, _ in of_images])
    images = np.split(np.arange(len(points2d)), ends[:-1])
    return search_pose(points2d, points3d, images, CAMERA, AbsolutePoseOptions(seed=seed))


def distance(pose: AbsolutePose | None, truth: np.ndarray) -> float:
    assert pose is not None
    centres = camera_centres(np.stack([pose.cam_from_world, truth]))
    return float(np.linalg.norm(centres[0] - centres[1]))


def test_many_inliers_all_over_the_image_are_certain() -> None:
    rng = np.random.default_rng(0)
    pose = search(seen_points(rng, TRUE, 100), wrong_matches(rng, 100))
    assert distance(pose, TRUE) < 0.05
    assert pose is not None
    assert pose.evidence.rivalry < 0.2
    assert confidence(pose.evidence) > 0.98
    assert pose.reason is None


def test_a_pose_of_another_place_makes_it_ambiguous() -> None:
    """As of a wall that two places have: nearly as many matches fit the other one."""
    rng = np.random.default_rng(1)
    pose = search(seen_points(rng, TRUE, 60), seen_points(rng, OTHER, 55))
    assert distance(pose, TRUE) < 0.05
    assert pose is not None
    assert pose.evidence.rivalry == pytest.approx(55 / 60, abs=0.1)
    assert confidence(pose.evidence) < LEAST_CONFIDENCE
    assert pose.reason is not None
    assert "another place" in pose.reason


def test_inliers_in_one_corner_are_uncertain() -> None:
    rng = np.random.default_rng(2)
    corner = search(seen_points(rng, TRUE, 30, 0.1, noise=2.0))
    whole = search(seen_points(rng, TRUE, 30, noise=2.0))
    assert corner is not None
    assert whole is not None
    assert corner.evidence.instability > 2 * whole.evidence.instability
    assert corner.evidence.num_places < whole.evidence.num_places
    assert not corner.evidence.is_chance
    assert corner.reason is not None
    assert "inliers" in corner.reason
    assert whole.reason is None


def test_an_image_proposes_the_pose_that_few_of_all_matches_fit() -> None:
    """1 % of all matches are right, but half of those of one image."""
    rng = np.random.default_rng(3)
    right, wrong = seen_points(rng, TRUE, 20), wrong_matches(rng, 20)
    one = tuple(np.concatenate(each) for each in zip(right, wrong, strict=True))
    others = [wrong_matches(rng, 200) for _ in range(10)]
    pose = search(*others, (one[0], one[1]))
    assert distance(pose, TRUE) < 0.2


def test_a_wrong_match_near_its_place_does_not_move_the_pose() -> None:
    rng = np.random.default_rng(4)
    points2d, points3d = seen_points(rng, TRUE, 30, 0.5)
    moved = points2d.copy()
    moved[:3] += 9.0  # an inlier within 12 px
    alone, together = search((points2d, points3d)), search((moved, points3d))
    assert alone is not None
    assert together is not None
    np.testing.assert_allclose(
        camera_centres(alone.cam_from_world[None]),
        camera_centres(together.cam_from_world[None]),
        atol=0.05,
    )


def test_the_search_is_the_same_again() -> None:
    rng = np.random.default_rng(5)
    matches = seen_points(rng, TRUE, 20), wrong_matches(rng, 80), wrong_matches(rng, 50)
    first, second = search(*matches), search(*matches)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.cam_from_world, second.cam_from_world)
    assert first.evidence == second.evidence


def test_few_matches_give_none() -> None:
    rng = np.random.default_rng(6)
    assert search(seen_points(rng, TRUE, 3)) is None
    assert search((np.zeros((0, 2)), np.zeros((0, 3)))) is None


@pytest.mark.parametrize(
    "worse",
    [{"num_places": 4}, {"instability": 0.05}, {"rivalry": 0.6}, {"log_false_alarms": -2.0}],
)
def test_each_kind_of_evidence_counts(worse: dict[str, float]) -> None:
    better, doubtful = EVIDENCE, replace(EVIDENCE, **worse)
    assert 0 <= confidence(doubtful) < confidence(better) <= 1
    assert better.doubt is None


def test_what_chance_explains_is_never_accepted() -> None:
    chance = replace(EVIDENCE, log_false_alarms=np.inf)
    assert confidence(chance) <= 0.5
    assert chance.doubt is not None
    assert "chance" in chance.doubt
    worst = PoseEvidence(3, 3, np.inf, num_places=1, instability=np.inf, rivalry=1.0)
    assert 0 <= confidence(worst) < 0.01
