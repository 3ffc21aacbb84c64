"""Subsets of a PhotoTourism scene, which the multiview track reconstructs one by one.

Jin et al., IJCV 2021, section 3.3: ``SCENE/set_100/sub_set/5bag_000.txt`` lists five images
(``images/NAME.jpg``), and so on for 100 subsets of 5, 50 of 10, and 25 of 25 images. As in the
authors' code, only those pairs of a subset are matched that have more than 100 points in common, by
``visibility.txt``, where the scene has it: a list of files in the order of ``images.txt``, each
with the numbers of common points of one image with all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.pairs.datasets.phototourism import (
    LEFT_OUT,
    images_folder,
    read_calibration,
)
from benchmarks.pairs.posed_pairs import relative_pose
from benchmarks.record import Problem
from featplug.io.names import checked_name, path_below
from featplug.io.pair_lists import Pair
from featplug.io.text_files import numbers, read_lines, read_text

NUM_SUBSETS = {5: 100, 10: 50, 25: 25}
"""Number of images to the number of subsets in the released set."""
_MIN_COMMON_POINTS = 100
_LIST = re.compile(r"(\d+)bag_(\d+)\.txt")


@dataclass(frozen=True)
class Subset:
    """Images of a scene that are reconstructed without the others."""

    name: str
    """Name of its list, such as ``5bag_000``."""
    images: tuple[str, ...]
    """Names relative to the folder of images."""

    @property
    def pairs(self) -> list[Pair]:
        """All pairs of images, in the order of the list."""
        return list(combinations(self.images, 2))


@dataclass(frozen=True)
class SubsetScene:
    """Subsets of a scene, and the true poses of its images."""

    subsets: list[Subset]
    cam_from_world: dict[str, np.ndarray]
    """Image to its true pose 3×4, whose unit of length is not known."""
    matched: list[Pair]
    """Pairs of all subsets that are matched."""
    problems: list[Problem]
    """Subsets that cannot be used, which are left out."""


def has_subsets(scene: Path) -> bool:
    """Return whether a folder is a scene of PhotoTourism with subsets."""
    return any((scene / "set_100" / "sub_set").glob("*bag_*.txt"))


def read_subsets(scene: Path, most: int | None = None) -> SubsetScene:
    """Read the subsets of a scene, or the first ``most`` of each number of images.

    Subsets with photographs that the authors withdrew are left out.

    Raises:
        FileNotFoundError: the scene has no images.
        ValueError: no subset can be used, or the numbers of common points are damaged.
    """
    images = images_folder(scene)
    subsets: list[Subset] = []
    poses: dict[str, np.ndarray] = {}
    problems = []
    lists = [(int(m[1]), int(m[2]), m.string) for m in map(_LIST.fullmatch, _names(scene)) if m]
    for size, number, name in sorted(lists):
        if most is not None and number >= most:
            continue
        path = scene / "set_100" / "sub_set" / name
        try:
            subset = _read_subset(path, size)
            if not LEFT_OUT.isdisjoint(Path(image).stem for image in subset.images):
                continue
            for image in subset.images:
                if not path_below(images, image).is_file():
                    raise FileNotFoundError(f"{path}: there is no image {images / image}.")
                if image not in poses:
                    poses[image] = read_calibration(scene, Path(image).stem).cam_from_world
            for name0, name1 in subset.pairs:
                if not relative_pose(poses[name0], poses[name1])[:, 3].any():
                    raise ValueError(
                        f"{path}: the cameras of {name0} and {name1} are at one place, so that the "
                        "direction between them is not defined; get the scene again."
                    )
        except (FileNotFoundError, ValueError) as error:
            problems.append(Problem(path.relative_to(scene).as_posix(), str(error)))
            continue
        subsets.append(subset)
    if not subsets:
        first = f"; the first problem: {problems[0].reason}" if problems else "."
        raise ValueError(f"{scene} has no subset of images that can be used{first}")
    visible = _visible_pairs(scene)
    pairs = dict.fromkeys(pair for subset in subsets for pair in subset.pairs)
    matched = [pair for pair in pairs if visible is None or frozenset(pair) in visible]
    return SubsetScene(subsets, poses, matched, problems)


def _names(scene: Path) -> list[str]:
    return [path.name for path in (scene / "set_100" / "sub_set").iterdir()]


def _read_subset(path: Path, size: int) -> Subset:
    names = _image_names(path)
    if len(set(names)) != size or len(names) != size:
        raise ValueError(
            f"{path}: expected {size} different images, got {len(names)}; get it again."
        )
    return Subset(path.stem, tuple(names))


def _image_names(path: Path) -> list[str]:
    """Read lines ``images/NAME.jpg``; return the names relative to the folder."""
    return [
        checked_name(line, f"{path}, line {at}").removeprefix("images/")
        for at, line in read_lines(path, "list of images")
    ]


def _visible_pairs(scene: Path) -> set[frozenset[str]] | None:
    """Return the pairs with enough common points; None where their numbers are not known."""
    folder = scene / "set_100"
    if not (folder / "visibility.txt").is_file():
        return None
    names = _image_names(folder / "images.txt")
    files = [
        path_below(folder, checked_name(line, f"{folder / 'visibility.txt'}, line {at}"))
        for at, line in read_lines(folder / "visibility.txt", "list of files")
    ]
    if len(files) != len(names):
        raise ValueError(
            f"{folder / 'visibility.txt'} lists {len(files)} files for {len(names)} images; get "
            "the scene again."
        )
    return {
        pair for name, file in zip(names, files, strict=True) for pair in _of(name, file, names)
    }


def _of(name: str, file: Path, names: Sequence[str]) -> list[frozenset[str]]:
    """Return the pairs of one image that have enough common points."""
    counts = numbers(read_text(file).split(), str(file), "numbers of points", count=len(names))
    return [
        frozenset((name, other))
        for other, count in zip(names, counts, strict=True)
        if other != name and count > _MIN_COMMON_POINTS
    ]
