"""Lists of image pairs with intrinsics and poses, a pair a line.

``name0 name1 [turn0 turn1] K0 K1 pose``: 9 numbers of each K by rows, and a pose that takes points
of camera 0 to camera 1, either a matrix 4×4 by rows (16 numbers; SuperGlue, Sarlin et al., CVPR
2020), or a rotation by rows and a translation (12 numbers; glue-factory). K and pose are those of
the images as stored. The turns are whole numbers of quarter turns anticlockwise by which SuperGlue
shows an image to its network; here EXIF data say how an image is turned, see
:mod:`featplug.io.orientation`, and points are always those of the image as stored.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair
from benchmarks.record import Problem
from featplug.io.image_files import read_image_header
from featplug.io.names import checked_name
from featplug.io.text_files import numbers, read_lines, whole_number

logger = logging.getLogger(__name__)

_NUM_WORDS = {2 + turns + 18 + pose for turns in (0, 2) for pose in (12, 16)}
_QUARTER_TURNS = {1: 0, 8: 1, 3: 2, 6: 3}
"""EXIF's orientation to quarter turns anticlockwise."""


COLMAP_CENTRE = 0.5
"""Coordinate of the first pixel's centre in COLMAP."""
_COINCIDING = 1e-6
"""Distance of two cameras, in distances from the origin, below which it is rounding."""

Intrinsics = tuple[np.ndarray, np.ndarray]
"""K of two images."""
MakePair = Callable[[str, str, Intrinsics, np.ndarray], ImagePair]
"""Makes a pair of two names, both K and a pose 3×4."""


def read_posed_pairs(
    pair_set: PairSet,
    path: Path,
    make: MakePair,
    *,
    first_centre: float = 0.0,
) -> None:
    """Add the pairs of a list; a line that cannot be used becomes a problem.

    Args:
        pair_set: pairs, which are added to.
        path: the list, below the data set's folder.
        make: returns the pair, given two names as they are listed, both K and the pose.
        first_centre: coordinate of the first pixel's centre in the list: 0, or 0.5 as in COLMAP.

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: the file is not text.
    """
    lines = read_lines(path, "list of pairs")
    if not lines:
        subject = path.relative_to(pair_set.folder).as_posix()
        reason = f"{path} lists no pair; write lines 'name0 name1 K0 K1 pose' to it."
        pair_set.problems.append(Problem(subject, reason))
    turned = 0
    for line, text in lines:
        words, place, num_pairs = text.split(), f"line {line}", len(pair_set.pairs)
        pair = partial(_pair, words, f"{path}, {place}", make, first_centre)
        add_pair(pair_set, path, pair, place)
        if len(pair_set.pairs) > num_pairs and len(words) in (34, 38):
            turned += _is_turned_otherwise(pair_set, words[2:4])
    if turned:
        logger.warning(
            "%s: images of %d pairs are to be turned, but their EXIF data do not say so; set the "
            "orientation in these, or they are matched as they are stored",
            path,
            turned,
        )


def _pair(words: Sequence[str], where: str, make: MakePair, first_centre: float) -> ImagePair:
    """Return the pair of a line."""
    if len(words) not in _NUM_WORDS:
        raise ValueError(
            f"{where}: expected two names, optionally two turns, and 18 numbers of K0 and K1 with "
            f"16 or 12 of a pose, got {len(words)} words; correct the line."
        )
    name0, name1 = (checked_name(word, where) for word in words[:2])
    start = 2 if len(words) in (32, 36) else 4
    for word in words[2:start]:
        whole_number(word, where, "a number of quarter turns", 0, 3)
    values = np.array(numbers(words[start:], where))
    first, second = (centred(k.reshape(3, 3), first_centre) for k in np.split(values[:18], 2))
    return make(name0, name1, (first, second), _pose(values[18:], where))


def _pose(values: np.ndarray, where: str) -> np.ndarray:
    if len(values) == 12:
        return np.column_stack([values[:9].reshape(3, 3), values[9:]])
    matrix = values.reshape(4, 4)
    if not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise ValueError(f"{where}: the last four numbers of the pose are not 0 0 0 1; correct it.")
    return matrix[:3]


def centred(intrinsics: np.ndarray, first_centre: float) -> np.ndarray:
    """Return K for pixel centres at integers, given the coordinate of the first pixel's centre."""
    shift = np.array([[1, 0, -first_centre], [0, 1, -first_centre], [0, 0, 1]])
    return shift @ intrinsics


def relative_pose(cam0_from_world: np.ndarray, cam1_from_world: np.ndarray) -> np.ndarray:
    """Return ``cam1_from_cam0`` 3×4 of two poses 3×4; a translation of mere rounding is zero."""
    rotation = cam1_from_world[:, :3] @ cam0_from_world[:, :3].T
    translation = cam1_from_world[:, 3] - rotation @ cam0_from_world[:, 3]
    scale = np.linalg.norm(cam0_from_world[:, 3]) + np.linalg.norm(cam1_from_world[:, 3])
    if np.linalg.norm(translation) <= _COINCIDING * scale:
        translation = np.zeros(3)
    return np.column_stack([rotation, translation])


def _is_turned_otherwise(pair_set: PairSet, turns: Sequence[str]) -> bool:
    """Return whether EXIF data of the last pair's images say something else than a list."""
    pair = pair_set.pairs[-1]
    for name, turn in zip((pair.name0, pair.name1), turns, strict=True):
        orientation = read_image_header(pair_set.folder / name).orientation
        if _QUARTER_TURNS.get(orientation) != int(turn):
            return True
    return False
