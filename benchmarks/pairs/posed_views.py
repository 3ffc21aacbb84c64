"""Lists of posed images and of their pairs, as glue-factory's posed image data sets have.

A line of ``views.txt`` is ``name R t MODEL width height parameters``: a rotation by rows and a
translation from the world to the camera, and a camera without distortion in COLMAP's form and
convention (the first pixel's centre is (0.5, 0.5)); a line of ``pairs.txt`` is ``name0 name1``.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair
from benchmarks.pairs.posed_pairs import COLMAP_CENTRE, MakePair, centred, relative_pose
from benchmarks.record import Problem
from featplug.colmap.camera_lines import camera_from_words
from featplug.io.names import checked_name
from featplug.io.text_files import numbers, read_lines
from featplug.io.text_tables import check_rotation
from featplug.metrics.homography import Size

VIEWS, PAIRS = "views.txt", "pairs.txt"
_NUM_POSE_NUMBERS = 12


class _View(NamedTuple):
    """An image, its camera and its pose."""

    intrinsics: np.ndarray
    """K with pixel centres at integers."""
    cam_from_world: np.ndarray
    """Pose 3×4."""
    size: Size
    """(width, height)."""


def read_posed_views(pair_set: PairSet, folder: Path, make: MakePair) -> None:
    """Add the pairs of a folder with both lists; a line that cannot be used becomes a problem.

    Args:
        pair_set: pairs, which are added to.
        folder: folder of the lists, the data set's or one below it.
        make: returns the pair, given two names as they are listed, both K and the pose.

    Raises:
        FileNotFoundError: a list is missing.
        ValueError: a list is not text.
    """
    views: dict[str, _View] = {}
    listed: dict[str, int] = {}
    for line, text in read_lines(folder / VIEWS, "list of images"):
        where = f"{folder / VIEWS}, line {line}"
        try:
            name, *words = text.split()
            view = _view(words, where)
            first = listed.setdefault(checked_name(name, where), line)
            if first != line:
                raise ValueError(
                    f"{where}: {name} is listed before, in line {first}, which counts; remove one."
                )
            views[name] = view
        except ValueError as error:
            pair_set.problems.append(Problem(f"{VIEWS}, line {line}", str(error)))
    for line, text in read_lines(folder / PAIRS, "list of pairs"):
        where = f"{folder / PAIRS}, line {line}"
        pair = partial(_pair, text.split(), where, views, make)
        add_pair(pair_set, folder / PAIRS, pair, f"line {line}")


def _view(words: list[str], where: str) -> _View:
    values = np.array(numbers(words[:_NUM_POSE_NUMBERS], where, count=_NUM_POSE_NUMBERS))
    pose = np.column_stack([values[:9].reshape(3, 3), values[9:]])
    check_rotation(pose[:, :3], where)
    camera = camera_from_words(words[_NUM_POSE_NUMBERS:], where)
    if not camera.is_undistorted():
        raise ValueError(
            f"{where}: the camera has a distortion, which a pair's epipolar geometry has not; "
            "undistort the image."
        )
    matrix = centred(camera.calibration_matrix(), COLMAP_CENTRE)
    return _View(matrix, pose, (camera.width, camera.height))


def _pair(words: list[str], where: str, views: dict[str, _View], make: MakePair) -> ImagePair:
    if len(words) != 2:
        raise ValueError(f"{where}: expected two image names, got {len(words)}; correct the line.")
    name0, name1 = (checked_name(word, where) for word in words)
    for name in (name0, name1):
        if name not in views:
            raise ValueError(
                f"{where}: {VIEWS} has no image {name}; add it, or leave the pair out."
            )
    first, second = views[name0], views[name1]
    pose = relative_pose(first.cam_from_world, second.cam_from_world)
    pair = make(name0, name1, (first.intrinsics, second.intrinsics), pose)
    return replace(pair, sizes=(first.size, second.size))
