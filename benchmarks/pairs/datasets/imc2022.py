"""Training scenes of the Image Matching Challenge 2022, whose poses are in metres.

A folder of scenes, or one of them, as Kaggle releases ``train``: ``SCENE/images/NAME.jpg``;
``SCENE/calibration.csv`` with ``image_id``, ``camera_intrinsics`` and ``rotation_matrix`` by rows,
and ``translation_vector`` (``x_cam = R x + T``); ``SCENE/pair_covisibility.csv`` with ``pair``
(``NAME0-NAME1``) and ``covisibility``; and ``scaling_factors.csv`` next to the scenes with
``scene`` and ``scaling_factor``, metres for each unit of the translations. Translations of a scene
without a factor have no unit.

The pairs are those whose covisibility is 0.1 or more, as the organisers recommend; of a scene with
more than 500 such pairs, 500 at equal steps of their order by covisibility, then by name.

K comes from COLMAP; 0.5 is subtracted, as for :mod:`benchmarks.pairs.datasets.phototourism`.
"""

import csv
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pairs.datasets.phototourism import (
    Calibration,
    scene_folders,
    split_pair,
)
from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair, images_of
from benchmarks.pairs.posed_pairs import COLMAP_CENTRE, centred, relative_pose
from benchmarks.record import Problem
from featplug.io.names import checked_name
from featplug.io.text_files import iterate_lines, number, numbers
from featplug.io.text_tables import check_rotation

_PAIRS, _CAMERAS, _FACTORS = "pair_covisibility.csv", "calibration.csv", "scaling_factors.csv"
MARKS = (_PAIRS, f"*/{_PAIRS}")
SOURCE = (
    "Image Matching Challenge 2022: kaggle.com/competitions/image-matching-challenge-2022, the "
    "folder train (16 scenes), under the rules of the competition; photographs from Flickr under "
    "the licences of their authors."
)

SCENES = (
    *("brandenburg_gate", "british_museum", "buckingham_palace", "colosseum_exterior"),
    *("grand_place_brussels", "lincoln_memorial_statue", "notre_dame_front_facade"),
    *("pantheon_exterior", "piazza_san_marco", "sacre_coeur", "sagrada_familia"),
    *("st_pauls_cathedral", "st_peters_square", "taj_mahal", "temple_nara_japan"),
    "trevi_fountain",
)
_LEAST_COVISIBILITY = 0.1
_MOST_PAIRS = 500
"""Largest number of pairs of a scene."""


def read(folder: Path) -> PairSet:
    """Read the pairs of all scenes of the folder."""
    pair_set = PairSet("imc2022", folder, [], sequences=SCENES)
    scenes = scene_folders(folder, MARKS)
    if not scenes:
        return pair_set
    factors = _scaling_factors(pair_set, scenes[0].resolve().parent / _FACTORS)
    for scene in scenes:
        try:
            chosen = _chosen_pairs(scene / _PAIRS)
            cameras = _calibrations(pair_set, scene / _CAMERAS)
            images = images_of(scene / "images")
        except (OSError, ValueError) as error:
            subject = (scene / _PAIRS).relative_to(folder).as_posix()
            pair_set.problems.append(Problem(subject, str(error)))
            continue
        factor = factors.get(scene.resolve().name)
        for line, key in chosen:
            made = partial(_pair, folder, scene, (line, key), images, cameras, factor)
            add_pair(pair_set, scene / _PAIRS, made, f"line {line}")
    return pair_set


def _columns(path: Path, *names: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line of a table, and its words in columns given by their heads."""
    places: list[int] = []
    for line, text in iterate_lines(path, "table"):
        words = next(csv.reader([text]), [])
        if not words:
            continue
        if not places:
            missing = set(names).difference(words)
            if missing:
                heads = ", ".join(names)
                raise ValueError(f"{path}, line {line}: expected the heads {heads}; get it again.")
            places = [words.index(name) for name in names]
        elif len(words) <= max(places):
            raise ValueError(f"{path}, line {line}: the line ends too soon; get the file again.")
        else:
            yield line, [words[place] for place in places]


def _scaling_factors(pair_set: PairSet, path: Path) -> dict[str, float]:
    """Read the metres of each scene's unit; a file that cannot be used becomes a problem."""
    try:
        return {
            scene: number(factor, f"{path}, line {line}", "a scaling factor", minimum=1e-9)
            for line, (scene, factor) in _columns(path, "scene", "scaling_factor")
        }
    except (OSError, ValueError) as error:
        reason = f"{error} Without it, translations have no unit."
        pair_set.problems.append(Problem(path.name, reason))
        return {}


def _chosen_pairs(path: Path) -> list[tuple[int, str]]:
    """Return lines and names of the pairs to measure, in the order of their names."""
    found = []
    for line, (key, text) in _columns(path, "pair", "covisibility"):
        covisibility = number(text, f"{path}, line {line}", "a covisibility")
        if covisibility >= _LEAST_COVISIBILITY:
            found.append((covisibility, key, line))
    found.sort()
    if len(found) > _MOST_PAIRS:
        steps = np.arange(_MOST_PAIRS) * (len(found) - 1) // (_MOST_PAIRS - 1)
        found = [found[step] for step in steps.tolist()]
    return [(line, key) for key, line in sorted((key, line) for _, key, line in found)]


def _calibrations(pair_set: PairSet, path: Path) -> dict[str, Calibration]:
    """Read the cameras of a scene; a line that cannot be used becomes a problem."""
    cameras = {}
    heads = "image_id", "camera_intrinsics", "rotation_matrix", "translation_vector"
    for line, (name, *texts) in _columns(path, *heads):
        try:
            cameras[checked_name(name, f"{path}, line {line}")] = _calibration(
                texts, f"{path}, line {line}"
            )
        except ValueError as error:
            subject = f"{path.relative_to(pair_set.folder).as_posix()}, line {line}"
            pair_set.problems.append(Problem(subject, str(error)))
    return cameras


def _calibration(texts: Sequence[str], where: str) -> Calibration:
    matrix, rotation, translation = (
        np.array(numbers(text.split(), where, count=count))
        for text, count in zip(texts, (9, 9, 3), strict=True)
    )
    check_rotation(rotation.reshape(3, 3), f"{where}, the rotation")
    pose = np.column_stack([rotation.reshape(3, 3), translation])
    return Calibration(centred(matrix.reshape(3, 3), COLMAP_CENTRE), pose)


def _pair(
    folder: Path,
    scene: Path,
    listed: tuple[int, str],
    images: dict[str, str],
    cameras: dict[str, Calibration],
    factor: float | None,
) -> ImagePair:
    line, key = listed
    where = f"{scene / _PAIRS}, line {line}"
    names = split_pair(key, images)
    if names is None:
        raise ValueError(f"{where}: {key!r} is not NAME0-NAME1 of two images; get it again.")
    lacking = [name for name in names if name not in cameras]
    if lacking:
        raise ValueError(
            f"{where}: {scene / _CAMERAS} has no camera of {lacking[0]}; get it again."
        )
    camera0, camera1 = (cameras[name] for name in names)
    pose = relative_pose(camera0.cam_from_world, camera1.cam_from_world)
    pose[:, 3] *= factor or 1.0
    inside = scene.relative_to(folder) / "images"
    name0, name1 = ((inside / images.get(n, checked_name(f"{n}.jpg"))).as_posix() for n in names)
    return ImagePair(
        name0,
        name1,
        sequence=scene.resolve().name,
        intrinsics=(camera0.intrinsics, camera1.intrinsics),
        cam1_from_cam0=pose,
        unit=None if factor is None else "m",
    )
