"""The teacher's file, and the classical teacher: it finds corners and resumes where it stopped."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from featplug.training.data.teacher import (
    TeacherKeypoints,
    TeacherOptions,
    adapted_corners,
)
from tests.scenes.pictures import write_photographs, write_teacher

FAST = TeacherOptions(max_keypoints=40, num_homographies=6)


def test_corners_of_a_square_are_found_first() -> None:
    image = np.full((120, 160, 3), 60, np.uint8)
    image[30:90, 50:110] = 200
    # Half way between the last pixel of one colour and the first of the other.
    corners = np.array([[49.5, 29.5], [109.5, 29.5], [49.5, 89.5], [109.5, 89.5]])
    options = TeacherOptions(max_keypoints=40, num_homographies=24)
    taught = adapted_corners(cv2.GaussianBlur(image, (5, 5), 1.0), options, torch.device("cpu"))
    distances = np.linalg.norm(taught.keypoints[:4, None] - corners, axis=-1)
    assert sorted(distances.argmin(1)) == [0, 1, 2, 3]
    # The response's window draws corners towards the inside.
    assert distances.min(1).max() < 2.5
    assert taught.repeatable[:4].all()
    assert (np.diff(taught.scores) <= 0).all()


def test_a_flat_photograph_has_none() -> None:
    flat = np.full((40, 60, 3), 128, np.uint8)
    taught = adapted_corners(flat, FAST, torch.device("cpu"))
    assert taught.keypoints.shape == (0, 2)
    assert len(taught.scores) == len(taught.repeatable) == 0


def test_keypoints_are_in_pixels_of_the_photograph(tmp_path: Path) -> None:
    """Also of one that is searched at a smaller size."""
    image = np.full((240, 320, 3), 60, np.uint8)
    image[60:180, 100:220] = 200
    cv2.imwrite(str(tmp_path / "square.png"), image)
    options = TeacherOptions(max_keypoints=4, num_homographies=12, max_side=160)
    assert list(TeacherKeypoints.make(tmp_path, tmp_path / "t.h5", ["square.png"], options)) == [
        "square.png"
    ]
    corners = np.array([[99.5, 59.5], [219.5, 59.5], [99.5, 179.5], [219.5, 179.5]])
    keypoints = TeacherKeypoints(tmp_path / "t.h5").keypoints("square.png").keypoints
    assert np.linalg.norm(keypoints[:, None] - corners, axis=-1).min(1).max() < 3


def test_stopped_and_resumed(tmp_path: Path) -> None:
    names = write_photographs(tmp_path, [(100, 80), (80, 60), (90, 90)])
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    assert list(TeacherKeypoints.make(tmp_path, whole, names, FAST)) == names
    stopped = TeacherKeypoints.make(tmp_path, parts, names, FAST)
    assert next(stopped) == names[0]
    stopped.close()
    TeacherKeypoints(parts).require(names[:1])
    with pytest.raises(ValueError, match="2 of 3"):
        TeacherKeypoints(parts).require(names)
    assert list(TeacherKeypoints.make(tmp_path, parts, names, FAST)) == names
    one, other = TeacherKeypoints(whole), TeacherKeypoints(parts)
    for name in names:
        np.testing.assert_array_equal(
            one.keypoints(name).keypoints, other.keypoints(name).keypoints
        )
    del one, other  # who reads keeps writers out
    with pytest.raises(ValueError, match="max_keypoints"):
        next(TeacherKeypoints.make(tmp_path, parts, names, TeacherOptions(max_keypoints=41)))
    (tmp_path / names[0]).write_bytes((tmp_path / names[1]).read_bytes())
    with pytest.raises(ValueError, match=r"photo0\.png.*delete"):
        next(TeacherKeypoints.make(tmp_path, parts, names, FAST))


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "teacher.h5"
    expected = write_teacher(path, ["a.png", "folder/b.png"], [(80, 60), (80, 60)], count=7)
    with h5py.File(path, "a") as file:
        file["a.png"]["repeatable"] = np.arange(7) % 2 == 0
    teacher = pickle.loads(pickle.dumps(TeacherKeypoints(path)))
    assert teacher.largest == 7
    np.testing.assert_array_equal(
        teacher.keypoints("folder/b.png").keypoints, expected["folder/b.png"]
    )
    assert teacher.keypoints("folder/b.png").repeatable.all()
    taught = teacher.keypoints("a.png")
    np.testing.assert_array_equal(taught.keypoints[taught.repeatable], expected["a.png"][::2])
    assert len(taught.scores) == 7


def test_what_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.h5"):
        TeacherKeypoints(tmp_path / "none.h5")
    h5py.File(tmp_path / "empty.h5", "w").close()
    with pytest.raises(ValueError, match=r"empty\.h5"):
        TeacherKeypoints(tmp_path / "empty.h5")


def test_the_shared_teacher_is_of_the_shared_photographs(shared: Path) -> None:
    path = shared / "training" / "teacher_keypoints.h5"
    if not path.is_file():
        pytest.skip("no teacher's keypoints")
    teacher = TeacherKeypoints(path)
    names = sorted(p.name for p in (shared / "data" / "training_photos").glob("*.jpg"))
    teacher.require(names)
    taught = teacher.keypoints(names[0])
    assert len(taught.keypoints) == len(taught.scores) == len(taught.repeatable) > 0
    assert (np.diff(taught.scores) <= 0).all()
