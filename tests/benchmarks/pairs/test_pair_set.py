"""What is rejected of intrinsics and poses, and what is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair, check_intrinsics, check_pose
from pipelines.demo.photography import write_picture

SIZE = (1296, 968)
K = np.array([[1165.72, 0, 649.095], [0, 1165.74, 484.765], [0, 0, 1]])
POSE = np.column_stack([Rotation.from_euler("y", 20, degrees=True).as_matrix(), [1.0, 0, 0.2]])


def _changed(matrix: np.ndarray, place: tuple[int, int], value: float) -> np.ndarray:
    changed = matrix.copy()
    changed[place] = value
    return changed


def test_intrinsics_of_real_cameras_are_accepted() -> None:
    check_intrinsics(K, SIZE, "list, line 1")
    # COLMAP's convention, a telephoto lens, an image cropped on one side, skew.
    check_intrinsics(np.array([[900.0, 0, 640], [0, 900, 480], [0, 0, 1]]), (1280, 960), "")
    check_intrinsics(np.array([[30000.0, 0, 319.5], [0, 30000, 239.5], [0, 0, 1]]), (640, 480), "")
    check_intrinsics(np.array([[500.0, 0, 419.5], [0, 500, 239.5], [0, 0, 1]]), (640, 480), "")
    check_intrinsics(np.array([[500.0, 2, 319.5], [0, 500, 239.5], [0, 0, 1]]), (640, 480), "")


@pytest.mark.parametrize(
    ("matrix", "size", "problem"),
    [
        (K, (640, 480), "1165.72|principal point"),  # images were reduced, K was not
        (np.diag([640 / 1296, 480 / 968, 1]) @ K, SIZE, "principal point"),
        (np.diag([0.8, 0.8, 1]) @ K, SIZE, "principal point"),
        (K, (968, 1296), "principal point"),  # the images were turned
        (np.diag([1e-3, 1e-3, 1]) @ K, SIZE, "focal"),
        (_changed(K, (1, 1), 300), SIZE, "focal"),
        (_changed(K, (0, 0), -1165), SIZE, "focal"),
        (_changed(K, (2, 2), 2), SIZE, "last number"),
        (K.T, SIZE, "fx skew cx"),
        (_changed(K, (0, 2), np.nan), SIZE, "fx skew cx"),
    ],
)
def test_intrinsics_of_no_such_image_are_rejected(
    matrix: np.ndarray, size: tuple[int, int], problem: str
) -> None:
    with pytest.raises(ValueError, match=rf"^pairs.txt, line 7: .*({problem})"):
        check_intrinsics(matrix, size, "pairs.txt, line 7")


@pytest.mark.parametrize(
    ("pose", "problem"),
    [
        (POSE * 1.1, "rotation"),
        (POSE * [[1], [1], [-1]], "rotation"),  # seen in a mirror
        (_changed(POSE, (0, 3), np.nan), "finite"),
        (POSE[:, :3], "3×4"),
        (POSE * [1, 1, 1, 0], "translation"),
    ],
)
def test_what_is_no_pose_is_rejected(pose: np.ndarray, problem: str) -> None:
    check_pose(POSE.round(5), "")  # lists have few digits
    with pytest.raises(ValueError, match=rf"^pairs.txt, line 7.*{problem}"):
        check_pose(pose, "pairs.txt, line 7")


def test_a_bad_pair_is_a_problem_of_the_set_and_the_others_remain(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / name, np.zeros((968, 1296, 3), np.uint8))
    write_picture(tmp_path / "small.png", np.zeros((480, 640, 3), np.uint8))
    pair_set = PairSet("list", tmp_path, [])

    def pair(name0: str, name1: str, pose: np.ndarray = POSE) -> ImagePair:
        return ImagePair(name0, name1, "", intrinsics=(K, K), cam1_from_cam0=pose)

    listed = [
        pair("a.png", "b.png"),
        pair("a.png", "small.png"),
        pair("a.png", "missing.png"),
        pair("b.png", "a.png", POSE * 2),
        pair("a.png", "a.png"),
        pair("a.png", "c.png", POSE * [1.004, 1.004, 1.004, 1]),  # which is 0.3° off
        replace(pair("c.png", "a.png"), sizes=((1296, 968), (1300, 971))),
        replace(pair("b.png", "c.png"), part="all"),
        replace(pair("c.png", "b.png"), sequence="mean of scenes"),
    ]
    for line, given in enumerate(listed, 1):
        add_pair(pair_set, tmp_path / "pairs.txt", lambda given=given: given, f"line {line}")  # type: ignore[misc]
    assert [(p.name0, p.name1) for p in pair_set.pairs] == [("a.png", "b.png")]
    np.testing.assert_allclose(pair_set.pairs[0].cam1_from_cam0, POSE, atol=1e-12)
    subjects = [problem.subject for problem in pair_set.problems]
    assert subjects == [f"pairs.txt, line {line}" for line in range(2, 10)]
    reasons = [problem.reason for problem in pair_set.problems]
    texts = ["small.png", "missing.png", "rotation", "itself", "rotation"]
    texts += ["1296×968 pixels, and 1300×971 in the data set", "'all'", "'mean of scenes'"]
    for reason, expected in zip(reasons, texts, strict=True):
        assert expected in reason


def test_the_geometry_of_a_pair_follows_from_intrinsics_and_pose() -> None:
    points = np.random.default_rng(0).uniform([-1, -1, 4], [1, 1, 9], (50, 3))
    pair = ImagePair("a", "b", "", intrinsics=(K, K * [1.1, 1.1, 1]), cam1_from_cam0=POSE)
    sides = []
    for matrix, pose in zip(pair.intrinsics or (), (np.eye(3, 4), POSE), strict=True):
        pixels = (points @ pose[:, :3].T + pose[:, 3]) @ matrix.T
        sides.append(pixels / pixels[:, 2:])
    assert pair.true_fundamental is not None
    values = np.einsum("ni,ij,nj->n", sides[1], pair.true_fundamental, sides[0])
    np.testing.assert_allclose(values, 0, atol=1e-12)
    assert ImagePair("a", "b", "", homography=np.eye(3)).true_fundamental is None


def test_a_rounded_rotation_becomes_the_nearest_one(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name, np.zeros((968, 1296, 3), np.uint8))
    pair_set = PairSet("list", tmp_path, [])
    rounded = np.round(POSE, 4)
    add_pair(
        pair_set,
        tmp_path / "pairs.txt",
        lambda: ImagePair("a.png", "b.png", "", intrinsics=(K, K), cam1_from_cam0=rounded),
        "line 1",
    )
    pose = pair_set.pairs[0].cam1_from_cam0
    assert pose is not None
    np.testing.assert_allclose(pose[:, :3] @ pose[:, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(pose, POSE, atol=1e-4)
