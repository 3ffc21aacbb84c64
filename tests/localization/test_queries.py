"""Query lists and pose files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from featplug.localization.queries import (
    Query,
    read_poses,
    read_queries,
    write_poses,
    write_queries,
)

NIGHT = "query/night/nexus5x/IMG_20161227_173116.jpg SIMPLE_RADIAL 1600 1200 1469.2 800 600 -0.035"
DAY = "query/day/milestone/2010-10-30_17-47-25_73.jpg SIMPLE_RADIAL 1600 1200 1468 800.5 600 0.01"


def test_lists_of_a_glob_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "day_time_queries_with_intrinsics.txt").write_text(f"# day\n\n{DAY}\n")
    (tmp_path / "night_time_queries_with_intrinsics.txt").write_text(f"{NIGHT}\n{NIGHT}\n")
    (tmp_path / "other.txt").write_text("not a query list\n")
    queries = read_queries(tmp_path / "*_time_queries_with_intrinsics.txt")
    assert [query.name for query in queries] == [DAY.split()[0], NIGHT.split()[0]]
    camera = queries[1].camera
    assert camera.model == pycolmap.CameraModelId.SIMPLE_RADIAL
    assert (camera.width, camera.height) == (1600, 1200)
    np.testing.assert_array_equal(camera.params, [1469.2, 800, 600, -0.035])


def test_a_written_list_reads_back_exactly(tmp_path: Path) -> None:
    camera = pycolmap.Camera(
        model="OPENCV", width=64, height=48, params=[1 / 3, 2, 3, 4, 0, 0, 0, 0]
    )
    write_queries(tmp_path / "deep" / "q.txt", [Query("a/b.jpg", camera)])
    (query,) = read_queries(tmp_path / "deep" / "q.txt")
    assert query.name == "a/b.jpg"
    assert (query.camera.model, query.camera.width, query.camera.height) == (camera.model, 64, 48)
    np.testing.assert_array_equal(query.camera.params, camera.params)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "query list .*q.txt is empty"),
        ("a.jpg\n", "q.txt, line 1: expected `name MODEL width height"),
        ("a.jpg RADIAL6 10 10 1 2 3\n", "with a camera model of COLMAP's, got 'RADIAL6 10"),
        ("#\na.jpg SIMPLE_RADIAL 10 10 1 2 3\n", "line 2: the camera has 3 param.* has 4"),
        ("a.jpg SIMPLE_RADIAL 10 x 1 2 3 4\n", "line 1: expected a size, got 'x'"),
        ("a.jpg SIMPLE_PINHOLE 0 10 1 2 3\n", "line 1: expected a size of at least 1 .* got 0"),
        ("../a.jpg SIMPLE_PINHOLE 10 10 1 2 3\n", "plain path below the image folder"),
        ("a.jpg SIMPLE_PINHOLE 10 -1 1 2 3\n", "line 1: expected a size of at least 1 .* got -1"),
        ("a.jpg SIMPLE_PINHOLE 10 9999999 1 2 3\n", "line 1: expected a size .* got 9999999"),
        ("a.jpg SIMPLE_PINHOLE 10 10 -1 2 3\n", "line 1: the camera has the parameters .-1"),
        ("a.jpg SIMPLE_PINHOLE 10 10 0 2 3\n", "line 1: the camera has the parameters .0"),
        ("a.jpg SIMPLE_PINHOLE 10 10 inf 2 3\n", "line 1: .*finite .* got inf"),
        ("a.jpg SIMPLE_PINHOLE 10 10 1e300 2 3\n", "line 1: .*finite and below 1e.30, got 1e300"),
        ("a.jpg SIMPLE_PINHOLE 10 10 1 2 11\n", r"line 1: .*principal point .* \(2, 11\)"),
        ("a.jpg SIMPLE_RADIAL 10 10 1 2 3 nan\n", "line 1: .*finite .* got nan"),
        ("a.jpg INVALID 10 10 1 2 3\n", "line 1: the camera has the camera model -1"),
        ("a SIMPLE_PINHOLE 9 9 1 2 3\na SIMPLE_PINHOLE 9 9 1 2 4\n", "line 2: .* another camera"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "q.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_queries(tmp_path / "q.txt")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no query list .*x_time"):
        read_queries(tmp_path / "x_time*.txt")
    with pytest.raises(FileNotFoundError, match=r"There is no pose file .*x"):
        read_poses(tmp_path / "x.txt")


def test_a_submission_has_base_names_and_world_to_camera_poses(tmp_path: Path) -> None:
    """Turned 90° about z, one to the right: read by the benchmark's own words."""
    pose = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3]])
    write_poses(tmp_path / "p.txt", {"query/day/a.jpg": pose})
    name, *numbers = (tmp_path / "p.txt").read_text().rstrip("\n").split(" ")
    assert name == "a.jpg"
    half = np.sqrt(0.5)
    np.testing.assert_allclose([float(n) for n in numbers], [half, 0, 0, half, 1, 2, 3])
    write_poses(tmp_path / "full.txt", {"query/day/a.jpg": pose}, names="full")
    assert (tmp_path / "full.txt").read_text().startswith("query/day/a.jpg ")


def test_poses_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rotations = Rotation.random(20, rng=rng).as_matrix()
    poses = {
        f"{i}.jpg": np.column_stack([rotation, rng.normal(size=3) * 1000])
        for i, rotation in enumerate(rotations)
    }
    write_poses(tmp_path / "p.txt", poses)
    read = read_poses(tmp_path / "p.txt")
    assert list(read) == list(poses)
    for name, pose in poses.items():
        np.testing.assert_allclose(read[name], pose, atol=1e-14, rtol=0)
    assert all(
        float(line.split()[1]) >= 0 for line in (tmp_path / "p.txt").read_text().splitlines()
    )


def test_names_that_a_submission_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    pose = np.eye(3, 4)
    with pytest.raises(
        ValueError, match=r"'day/1.jpg' and 'night/1.jpg' are both '1.jpg' in a submission"
    ):
        write_poses(tmp_path / "p.txt", {"0.jpg": pose, "day/1.jpg": pose, "night/1.jpg": pose})
    assert not (tmp_path / "p.txt").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", "pose file .* is empty"),
        ("a.jpg 1 0 0 0 1 2\n", "p.txt, line 1: expected 7 numbers qw qx qy qz tx ty tz"),
        ("a.jpg 1 0 0 zero 1 2 3\n", "line 1: .*'zero'"),
        ("a.jpg 0 0 0 0 1 2 3\n", "line 1: .*norm 0"),
        ("a.jpg 1 0 0 1 1 2 3\n", "line 1: .*norm 1.41"),
        ("a.jpg 1 0 0 0 1e999 2 3\n", "line 1: .*finite"),
        ("../a.jpg 1 0 0 0 1 2 3\n", "line 1: .*plain path"),
        ("a.jpg 1 0 0 0 nan 2 3\n", "line 1: .*finite .* got nan"),
        ("a.jpg 1 0 0 0 1 2 3\na.jpg 1 0 0 0 1 2 3\n", "line 2: a second pose of 'a.jpg'"),
    ],
)  # fmt: skip
def test_a_bad_pose_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_poses(tmp_path / "p.txt")
