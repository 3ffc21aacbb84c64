"""Scenes of Strecha et al. (CVPR 2008), such as fountain-P11: true cameras in metres.

A scene has a ``NAME.camera`` file for each photograph, next to it, or in a folder next to that of
the photographs; a folder of several scenes is read as well. Pairs are all those whose optical axes
differ by at most 60°, in parts by this angle. No paper has a list of pairs of these scenes.

Principal points are taken to be in COLMAP's convention. Epipolar errors of matches do not tell
which it is: it makes less than 0.001 px of difference in their median.
"""

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.pairs.pair_set import ImagePair, PairSet, add_pair
from benchmarks.pairs.posed_pairs import COLMAP_CENTRE, centred, relative_pose
from benchmarks.record import Problem
from pipelines.datasets.true_poses import (
    read_strecha_camera,
    read_strecha_intrinsics,
    read_strecha_size,
)

MARKS = ("*.camera", "*/*.camera", "*/*/*.camera")
SOURCE = (
    "Strecha's scenes: github.com/openMVG/SfM_quality_evaluation, about 30 MB each, research use."
)

_MOST_DEGREES = 60.0
_STEP = 20.0
"""Width of a part in degrees."""


class _View(NamedTuple):
    """A photograph, and its camera."""

    name: str
    scene: str
    file: Path
    intrinsics: np.ndarray
    cam_from_world: np.ndarray
    """Pose 3×4."""
    size: tuple[int, int] | None
    """(width, height) of the photograph, where the file has them."""


def read(folder: Path) -> PairSet:
    """Read all scenes of the folder."""
    pair_set = PairSet("strecha", folder, [])
    files = sorted(path for mark in MARKS for path in folder.glob(mark))
    for scene in dict.fromkeys(file.parent for file in files):
        views = []
        for file in files:
            if file.parent != scene:
                continue
            try:
                views.append(_view(folder, file))
            except (FileNotFoundError, ValueError) as error:
                subject = file.relative_to(folder).as_posix()
                pair_set.problems.append(Problem(subject, str(error)))
        for view0, view1 in combinations(views, 2):
            degrees = _angle(view0, view1)
            if degrees <= _MOST_DEGREES:
                pair = partial(_pair, view0, view1, degrees)
                add_pair(pair_set, view0.file, pair, f"with {view1.file.name}")
    return pair_set


def _view(folder: Path, file: Path) -> _View:
    name, cameras = file.name.removesuffix(".camera"), file.parent
    places = [cameras, cameras.parent / "images"]
    places.append(cameras.parent / cameras.name.replace("cameras", "images"))
    image = next((place / name for place in places if (place / name).is_file()), None)
    if image is None or not image.is_relative_to(folder):
        raise FileNotFoundError(f"{file}: there is no photograph {name} next to it or in images.")
    scene = cameras if image.parent == cameras else cameras.parent
    return _View(
        image.relative_to(folder).as_posix(),
        scene.resolve().name,
        file,
        centred(read_strecha_intrinsics(file), COLMAP_CENTRE),
        read_strecha_camera(file),
        read_strecha_size(file),
    )


def _angle(view0: _View, view1: _View) -> float:
    """Return the angle between the optical axes, in degrees."""
    cosine = view0.cam_from_world[2, :3] @ view1.cam_from_world[2, :3]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _pair(view0: _View, view1: _View, degrees: float) -> ImagePair:
    least = _STEP * min(degrees // _STEP, _MOST_DEGREES // _STEP - 1)
    return ImagePair(
        view0.name,
        view1.name,
        sequence=view0.scene,
        part=f"{least:.0f}-{least + _STEP:.0f}°",
        intrinsics=(view0.intrinsics, view1.intrinsics),
        cam1_from_cam0=relative_pose(view0.cam_from_world, view1.cam_from_world),
        unit="m",
        sizes=(view0.size, view1.size) if view0.size and view1.size else None,
    )
