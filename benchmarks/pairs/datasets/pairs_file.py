"""Lists of image pairs with intrinsics and poses, of any images; see docs/image_pairs.md.

``…pairs_with_gt.txt`` as SuperGlue's, or ``pairs_calibrated.txt`` as glue-factory's; the form of a
line is that of :mod:`benchmarks.pairs.posed_pairs`, with pixel centres at integers. Names are
relative to the list's folder or to ``images`` in it. Each of several lists is a part of the data
set, with the name of its file: ``night_pairs_with_gt.txt`` has the pairs of ``night``. Or
``views.txt`` and ``pairs.txt``, of :mod:`benchmarks.pairs.posed_views`.
"""

from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet
from benchmarks.pairs.posed_pairs import Intrinsics, read_posed_pairs
from benchmarks.pairs.posed_views import VIEWS, read_posed_views

MARKS = ("pairs_calibrated.txt", "*pairs_with_gt.txt", VIEWS)
IS_GENERAL = True
SOURCE = (
    "Such a list has lines 'name0 name1 K0 K1 pose', e.g. scannet_test_pairs_with_gt.txt of "
    "github.com/magicleap/SuperGluePretrainedNetwork (0.5 MB, non-commercial research use)."
)


def read(folder: Path) -> PairSet:
    """Read all lists of a folder, or one list."""
    lists, name = [folder], folder.stem
    if folder.is_dir():
        lists, name = sorted({path for mark in MARKS for path in folder.glob(mark)}), folder.name
        if len(lists) > 1:
            lists = [path for path in lists if path.name != VIEWS]
    pair_set = PairSet(name, folder if folder.is_dir() else folder.parent, [])
    for path in lists:
        make = partial(_pair, pair_set.folder, _part(path) if len(lists) > 1 else None)
        if path.name == VIEWS:
            read_posed_views(pair_set, path.parent, make)
        else:
            read_posed_pairs(pair_set, path, make)
    return pair_set


def _part(path: Path) -> str:
    return path.stem.removesuffix("pairs_with_gt").strip("_") or path.stem


def _pair(
    folder: Path, part: str | None, name0: str, name1: str, intrinsics: Intrinsics, pose: np.ndarray
) -> ImagePair:
    folders = {name.rpartition("/")[0] for name in (name0, name1)}
    return ImagePair(
        _name(folder, name0),
        _name(folder, name1),
        sequence=folders.pop() if len(folders) == 1 else "",
        part=part,
        intrinsics=intrinsics,
        cam1_from_cam0=pose,
    )


def _name(folder: Path, name: str) -> str:
    is_in_images = not (folder / name).is_file() and (folder / "images" / name).is_file()
    return f"images/{name}" if is_in_images else name
