"""MegaDepth-1500: pairs of two scenes of MegaDepth (Li and Snavely, CVPR 2018) that LoFTR chose.

Two releases are read:

- glue-factory's: ``images/SCENE/*.jpg`` and ``pairs_calibrated.txt`` in the form of
  :mod:`benchmarks.pairs.posed_pairs`, or ``views.txt`` and ``pairs.txt`` in that of
  :mod:`benchmarks.pairs.posed_views`, with names relative to ``images``;
- LoFTR's (Sun et al., CVPR 2021): a file ``SCENE_LEAST_MOST.npz`` for each range of overlaps, see
  :mod:`benchmarks.pairs.scene_info`, and MegaDepth's ``Undistorted_SfM/SCENE/images``, or the
  images of its depth maps, which LoFTR's README allows in place of these. Overlaps are parts.

K is that of the images as they are, which COLMAP undistorted, in COLMAP's convention: principal
points are half the width and height. Here 0.5 is subtracted. (glue-factory adds it to keypoints;
LoFTR's code, and those made from it, leave it out.) Translations have no unit.

Published numbers are of resized images. LoFTR: longer side 840 px, but 0.5 px of RANSAC's threshold
are pixels of the image as it is. LightGlue, by glue-factory: longer side 1600 px, 2048 keypoints,
and thresholds in pixels of that size.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair
from benchmarks.pairs.posed_pairs import (
    COLMAP_CENTRE,
    Intrinsics,
    centred,
    read_posed_pairs,
    relative_pose,
)
from benchmarks.pairs.posed_views import VIEWS, read_posed_views
from benchmarks.pairs.scene_info import SceneInfo, ScenePair, read_scene_info
from benchmarks.record import Problem
from featplug.io.names import checked_name
from featplug.io.text_files import read_lines

_SCENE_INFO = "[0-9][0-9][0-9][0-9]_0.[0-9]_0.[0-9].npz"
_LIST = "pairs_calibrated.txt"
MARKS = ("images/[0-9][0-9][0-9][0-9]/*.jpg", _SCENE_INFO, f"*/{_SCENE_INFO}")
SOURCE = (
    "MegaDepth-1500: cvg-data.inf.ethz.ch/megadepth/megadepth1500.zip (glue-factory's, 1.5 GB "
    "unpacked), photographs from Flickr under the licences of their authors."
)

SCENES = ("0015", "0022")
NUM_PAIRS = 1500
"""Number of pairs in the released set."""


def read(folder: Path) -> PairSet:
    """Read the list of the folder, or else its files of scenes."""
    pair_set = PairSet("megadepth1500", folder, [], sequences=SCENES)
    if (folder / _LIST).is_file():
        read_posed_pairs(pair_set, folder / _LIST, _listed_pair, first_centre=COLMAP_CENTRE)
        return pair_set
    if (folder / VIEWS).is_file():
        read_posed_views(pair_set, folder, _listed_pair)
        return pair_set
    for path in _scene_files(folder):
        try:
            scene = read_scene_info(path)
        except (FileNotFoundError, ValueError) as error:
            subject = path.relative_to(folder).as_posix()
            pair_set.problems.append(Problem(subject, str(error)))
            continue
        for number, pair in enumerate(scene.pairs, 1):
            made = partial(_scene_pair, folder, path, scene, pair)
            add_pair(pair_set, path, made, f"pair {number}")
    return pair_set


def _listed_pair(name0: str, name1: str, intrinsics: Intrinsics, pose: np.ndarray) -> ImagePair:
    return ImagePair(
        f"images/{name0}",
        f"images/{name1}",
        sequence=name0.split("/")[0],
        intrinsics=intrinsics,
        cam1_from_cam0=pose,
    )


def _scene_files(folder: Path) -> Iterator[Path]:
    """Yield the files of scenes, those of LoFTR's list if it is next to them."""
    found = sorted(folder.glob(_SCENE_INFO)) or sorted(folder.glob(f"*/{_SCENE_INFO}"))
    index = found[0].parent / "megadepth_test_1500.txt" if found else folder
    if not index.is_file():
        yield from found
        return
    for line, name in read_lines(index, "list of scenes"):
        yield index.parent / f"{checked_name(name, f'{index}, line {line}')}.npz"


def _scene_pair(folder: Path, file: Path, scene: SceneInfo, pair: ScenePair) -> ImagePair:
    sequence, least, most = file.stem.split("_")
    names, intrinsics, poses = [], [], []
    for index in (pair.index0, pair.index1):
        path, matrix = scene.image_paths[index], scene.intrinsics[index]
        pose = scene.cam_from_world[index]
        if path is None or matrix is None or pose is None:
            raise ValueError(f"{file}: image {index} has no path, K or pose; download it again.")
        names.append(_image_name(folder, checked_name(path, str(file)), sequence))
        intrinsics.append(centred(matrix, COLMAP_CENTRE))
        poses.append(pose)
    name0, name1 = names
    return ImagePair(
        name0,
        name1,
        sequence=sequence,
        part=f"{least}-{most}",
        intrinsics=(intrinsics[0], intrinsics[1]),
        cam1_from_cam0=relative_pose(poses[0][:3], poses[1][:3]),
    )


def _image_name(folder: Path, name: str, scene: str) -> str:
    """Return the name of an image, or of the same one next to the depth maps if that exists."""
    other = f"phoenix/S6/zl548/MegaDepth_v1/{scene}/dense0/imgs/{Path(name).name}"
    is_other = not (folder / name).is_file() and (folder / other).is_file()
    return other if is_other else name
