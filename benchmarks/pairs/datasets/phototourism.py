"""PhotoTourism, the stereo track of the Image Matching Benchmark (Jin et al., IJCV 2021).

A folder of scenes, or one of them, as released: ``SCENE/set_100`` has ``images/NAME.jpg``;
``calibration/calibration_NAME.h5`` with K, R and T (``x_cam = R x + T``); and
``new-vis-pairs/keys-th-0.1.npy``, names ``NAME0-NAME1`` of the pairs whose covisibility is 0.1 or
more, which the stereo track is measured on. :mod:`benchmarks.reconstruction.multiview` measures the
multiview track of the same scenes.

K comes from COLMAP, in whose convention the first pixel's centre is 0.5; here 0.5 is subtracted,
which the authors' code leaves out. Translations have no unit.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair, images_of
from benchmarks.pairs.posed_pairs import COLMAP_CENTRE, centred, relative_pose
from benchmarks.record import Problem
from featplug.io.hdf5_arrays import read_array
from featplug.io.hdf5_guard import damaged, opening
from featplug.io.limits import read_npy
from featplug.io.names import checked_name
from featplug.io.text_tables import check_rotation

_SET = "set_100"
MARKS = (f"{_SET}/calibration/*.h5", f"*/{_SET}/calibration/*.h5")
SOURCE = (
    "PhotoTourism: cs.ubc.ca/research/kmyi_data/imw2020, ValidationData/imw2020-valid.tar.gz (3 "
    "scenes) and TestData/imw2020-test.tar.gz (9 scenes), of 100 photographs each with depth maps, "
    "from Flickr under the Creative Commons licences of their authors (YFCC100M)."
)

VALIDATION = ("reichstag", "sacre_coeur", "st_peters_square")
"""Scenes to choose options on."""
TEST = (
    *("british_museum", "florence_cathedral_side", "lincoln_memorial_statue", "london_bridge"),
    *("milan_cathedral", "mount_rushmore", "piazza_san_marco", "sagrada_familia"),
    "st_pauls_cathedral",
)
"""Scenes of published numbers."""
LEFT_OUT = frozenset(
    {
        *("21416139_3508932720", "61662402_4816310161"),
        *("92273298_5039274514", "50666539_5168136646"),
    }
)
"""Photographs of London Bridge that the authors withdrew; their code leaves out what has them."""


class Calibration(NamedTuple):
    """Camera of a photograph."""

    intrinsics: np.ndarray
    """K, 3×3, with pixel centres at integers."""
    cam_from_world: np.ndarray
    """Pose 3×4."""


def read(folder: Path) -> PairSet:
    """Read the pairs of all scenes of the folder."""
    pair_set = PairSet("phototourism", folder, [], sequences=VALIDATION + TEST)
    for scene in scene_folders(folder, MARKS):
        _read_scene(pair_set, scene)
    return pair_set


def scene_folders(folder: Path, marks: Iterable[str]) -> list[Path]:
    """Return the scenes: the folder itself, or those in it, by files that only a scene has."""
    own, below = marks
    return [folder] if any(folder.glob(own)) else _scenes_below(folder, below)


def _scenes_below(folder: Path, mark: str) -> list[Path]:
    found = (path.relative_to(folder).parts[0] for path in folder.glob(mark))
    return [folder / name for name in sorted(set(found))]


def _read_scene(pair_set: PairSet, scene: Path) -> None:
    path = scene / _SET / "new-vis-pairs" / "keys-th-0.1.npy"
    try:
        keys = _read_keys(path)
        images = images_of(images_folder(scene))
    except (FileNotFoundError, ValueError) as error:
        subject = path.relative_to(pair_set.folder).as_posix()
        pair_set.problems.append(Problem(subject, str(error)))
        return
    calibration = cache(partial(read_calibration, scene))
    inside = images_folder(scene).relative_to(pair_set.folder).as_posix()
    image_of = {stem: f"{inside}/{name}" for stem, name in images.items()}
    sequence = scene.resolve().name
    for number, key in enumerate(keys, 1):
        names = split_pair(key, images)
        if names is None or LEFT_OUT.isdisjoint(names):
            place = f"pair {number} ({key})"
            where = f"{path}, {place}"
            made = partial(_pair, names, image_of, calibration, sequence, where)
            add_pair(pair_set, path, made, place)


def images_folder(scene: Path) -> Path:
    """Return the folder of the photographs of a scene.

    Raises:
        FileNotFoundError: it does not exist.
    """
    folder = scene / _SET / "images"
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. {SOURCE}")
    return folder


def _read_keys(path: Path) -> list[str]:
    """Read the names of pairs from an array of text, without unpickling anything."""
    if not path.is_file():
        raise FileNotFoundError(f"There is no list of pairs {path}; download the scene again.")
    try:
        return _texts(read_npy(path))
    except ValueError as error:
        raise ValueError(f"{path} is no list of pairs: {error}; download it again.") from error


def _texts(array: np.ndarray) -> list[str]:
    """Return the texts of an array, whose bytes may be anything."""
    if array.dtype.kind == "S":
        return [text.decode("ascii") for text in array.ravel().tolist()]
    if array.dtype.kind != "U":
        raise ValueError(f"it holds {array.dtype}, not text")
    codes = np.ascontiguousarray(array.ravel()).view(array.dtype.byteorder + "u4")
    if codes.size and codes.max() > sys.maxunicode:  # NumPy makes no str of it
        raise ValueError("it holds characters that do not exist")
    return [str(text) for text in array.ravel().tolist()]


def split_pair(key: str, known: Iterable[str]) -> tuple[str, str] | None:
    """Split NAME0-NAME1, where names may have hyphens, preferably into two that are known."""
    words = key.split("-")
    splits = [("-".join(words[:i]), "-".join(words[i:])) for i in range(1, len(words))]
    names = set(known)
    fitting = [split for split in splits if names.issuperset(split)]
    return next(iter(fitting or (splits if len(splits) == 1 and all(splits[0]) else [])), None)


def _pair(
    names: tuple[str, str] | None,
    image_of: Mapping[str, str],
    calibration: Callable[[str], Calibration],
    sequence: str,
    where: str,
) -> ImagePair:
    if names is None:
        raise ValueError(f"{where}: expected NAME0-NAME1 of two images; download the list again.")
    for name in names:
        if checked_name(name, where) not in image_of:
            raise FileNotFoundError(f"{where}: there is no image {name}; download the scene again.")
    camera0, camera1 = (calibration(name) for name in names)
    return ImagePair(
        image_of[names[0]],
        image_of[names[1]],
        sequence=sequence,
        intrinsics=(camera0.intrinsics, camera1.intrinsics),
        cam1_from_cam0=relative_pose(camera0.cam_from_world, camera1.cam_from_world),
    )


def read_calibration(scene: Path, name: str) -> Calibration:
    """Read the camera of a photograph of a scene, by its name without the suffix.

    Raises:
        FileNotFoundError: its file does not exist.
        ValueError: the file is damaged, or R is no rotation.
    """
    path = scene / _SET / "calibration" / f"calibration_{name}.h5"
    with opening(path), h5py.File(path) as file:
        matrix, rotation, translation = (
            np.asarray(read_array(path, file, key), np.float64) for key in "KRT"
        )
    if (matrix.shape, rotation.shape, translation.size) != ((3, 3), (3, 3), 3):
        shapes = f"{matrix.shape}, {rotation.shape} and {translation.shape}"
        raise damaged(path, "", f"K, R and T have the shapes {shapes}")
    check_rotation(rotation, f"{path}, R")
    pose = np.column_stack([rotation, translation.ravel()])
    return Calibration(centred(matrix, COLMAP_CENTRE), pose)
