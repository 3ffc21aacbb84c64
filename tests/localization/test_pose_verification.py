"""Dense pose verification: scans rendered from poses look like what a camera there sees."""

from __future__ import annotations

import cv2
import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.io.images import read_image
from featplug.localization.absolute_pose import AbsolutePoseOptions
from featplug.localization.file_localizer import LocalizedQuery, QueryMatches
from featplug.localization.pose_search import search_pose
from featplug.localization.pose_verification import (
    ColouredScan,
    PoseVerifier,
    dense_root_sift,
    render,
    rendering_distance,
)
from featplug.localization.queries import Query
from pipelines.datasets.inloc import InLoc, benchmark_camera
from pipelines.references import coloured_scan
from tests.scenes import scanned_room
from tests.scenes.pictures import textured_image
from tests.scenes.scanned_room import ScannedRoom, write_scanned_room

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
    described = dense_root_sift(query)
    true = rendering_distance(described, *render(scan, moved(turn=5, right=0.2), CAMERA))
    other = rendering_distance(described, *render(scan, moved(**wrong), CAMERA))
    assert true is not None
    assert other is not None
    assert true < 0.1 < 0.5 < other


def test_a_rendering_of_too_little_is_not_compared() -> None:
    grey, scan = wall(0)
    described = dense_root_sift(grey)
    assert rendering_distance(described, *render(scan, moved(turn=60), CAMERA)) is None
    flat = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert rendering_distance(dense_root_sift(flat), flat, flat > 0) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2), (9, 9)])
def test_a_picture_smaller_than_a_patch_is_not_compared(shape: tuple[int, int]) -> None:
    tiny = textured_image(0, WIDTH, HEIGHT + 60)[: shape[0], : shape[1]]
    assert rendering_distance(dense_root_sift(tiny), tiny, np.ones(shape, bool)) is None


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> ScannedRoom:
    """A papered room as a data set in InLoc's layout."""
    return write_scanned_room(tmp_path_factory.mktemp("room") / "inloc", wallpaper=0)


def scan_of(room: ScannedRoom, name: str) -> ColouredScan:
    """The scan of a database image, as the pipeline reads it."""
    return coloured_scan(InLoc(room.folder), name)


def shift_between(first: np.ndarray, second: np.ndarray) -> float:
    """How far apart two pictures of one thing are, in pixels."""
    window = cv2.createHanningWindow(first.shape[::-1], cv2.CV_64F)
    shift, _ = cv2.phaseCorrelate(first.astype(float), second.astype(float), window)
    return float(np.hypot(*shift))


def test_a_cutout_rendered_at_its_own_pose_is_its_image(room: ScannedRoom) -> None:
    """As read from the files of a data set, through the alignment of the scan."""
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE",
        width=scanned_room.WIDTH,
        height=scanned_room.HEIGHT,
        params=[scanned_room.FOCAL, scanned_room.WIDTH / 2, scanned_room.HEIGHT / 2],
    )
    for name in room.database:
        grey = read_image(room.folder / name, grayscale=True)
        image, mask = render(scan_of(room, name), room.poses[name], camera)
        assert not mask[:3, :3].any()  # the hole of the scan
        assert mask[5:].all()
        np.testing.assert_array_equal(image[5:], grey[5:])


@pytest.mark.parametrize("wrong", [{"right": 1.0}, {"turn": 20.0}])
def test_a_photograph_is_nearest_to_the_scan_at_its_true_pose(
    room: ScannedRoom, wrong: dict[str, float]
) -> None:
    camera = benchmark_camera(scanned_room.WIDTH, scanned_room.HEIGHT)
    for query in room.queries:
        grey, pose = read_image(room.folder / query, grayscale=True), room.poses[query]
        described, turned = dense_root_sift(grey), np.vstack([pose, [0, 0, 0, 1]])
        for name in room.database:
            scan = scan_of(room, name)
            image, mask = render(scan, pose, camera)
            true = rendering_distance(described, image, mask)
            other = rendering_distance(described, *render(scan, moved(**wrong) @ turned, camera))
            assert true is not None
            assert other is None or true < 0.8 * other
            seen = np.where(mask, grey, 0)
            assert shift_between(seen, image) < 0.2


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
    distances = {each.image: each.distance for each in verified.candidates if not each.is_joint}
    assert distances["right"] == pytest.approx(0, abs=0.05)
    assert distances["wrong"] is None or distances["wrong"] > 0.5
    assert [each.image for each in verified.candidates if each.is_joint] == ["wrong", "right"]


def test_a_pose_wins_only_if_it_looks_better_in_the_same_scan() -> None:
    """A scan without noise says nothing for its image's pose, which is a little off."""
    grey, clear = wall(0)
    noise = np.random.default_rng(0).normal(0, 12, len(clear.grey))
    noisy = ColouredScan(clear.points, np.clip(clear.grey + noise, 0, 255).astype(np.uint8))
    query, off = Query("query.jpg", CAMERA), moved(right=0.02)
    matches = matches_with(["noisy", "clear"], [AT_ORIGIN, off], [120, 40], query)
    options = AbsolutePoseOptions(max_error=1.0)
    joint = search_pose(*matches.correspondences, CAMERA, options)
    localized = LocalizedQuery(query, [(matches, joint)], 0)
    scans = {"noisy": noisy, "clear": clear}
    verified = PoseVerifier(scans.__getitem__, lambda _: grey).verify(localized, options)
    of_joint = {each.image: each.distance for each in verified.candidates if each.is_joint}
    of_image = {each.image: each.distance for each in verified.candidates if not each.is_joint}
    assert of_image["clear"] < of_joint["noisy"]
    assert verified.pose is joint


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
    assert {each.distance for each in verified.candidates} == {None}
    assert {each.problem for each in verified.candidates} == {"Cannot read the scan of a."}


def test_scans_are_rendered_with_the_fitted_focal_length() -> None:
    grey, scan = wall(0)
    guess = pycolmap.Camera(
        model="SIMPLE_PINHOLE",
        width=WIDTH,
        height=HEIGHT,
        params=[1.3 * FOCAL, WIDTH / 2, HEIGHT / 2],
    )
    matches = matches_with(["a"], [AT_ORIGIN], [80], Query("query.jpg", guess))
    options = AbsolutePoseOptions(max_error=4.0, focal_length="unknown")
    joint = search_pose(*matches.correspondences, guess, options)
    localized = LocalizedQuery(matches.query, [(matches, joint)], 0)
    verified = PoseVerifier(lambda _: scan, lambda _: grey).verify(localized, options)
    assert [each.is_joint for each in verified.candidates] == [True, False]
    for each in verified.candidates:
        assert each.distance is not None
        assert each.distance < 0.1
