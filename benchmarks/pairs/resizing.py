"""Images resized and cropped to one size, as in LISRD's protocol, and their homographies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.pairs.pair_set import PairSet
from benchmarks.record import Problem
from featplug.io.artifact import Artifact, Provenance, file_hash
from featplug.io.images import read_image
from featplug.metrics.homography import Size
from featplug.utils.progress import progress_bar

_VERSION = 1
"""Version of the resizing; raised when its output changes."""


def resize_and_crop(image: np.ndarray, target: Size) -> tuple[np.ndarray, np.ndarray]:
    """Resize an image to cover the target size, and crop its middle (LISRD's ``--resize``).

    Returns:
        The new image, and the 3×3 that maps pixels of the given one to it, with pixel centres at
        integers in both. (The authors' code leaves out the half pixels and the rounding of sizes.)
    """
    size = np.array(image.shape[1::-1])
    final = np.array(target)
    scale = np.max(final / size)
    resized = np.maximum(np.round(size * scale).astype(int), final)
    first = np.minimum(np.round((size * scale - final) / 2).astype(int), resized - final)
    ratio = resized / size
    shift = (ratio - 1) / 2 - first
    matrix = np.array([[ratio[0], 0, shift[0]], [0, ratio[1], shift[1]], [0, 0, 1]])
    image = cv2.resize(image, resized.tolist(), interpolation=cv2.INTER_LINEAR)
    (left, top), (width, height) = first, target
    return image[top : top + height, left : left + width], matrix


def resized_pairs(pair_set: PairSet, target: Size, folder: Path, progress: bool = False) -> PairSet:
    """Write a data set's images in one size as PNG files, and adapt its homographies.

    An image that cannot be read becomes a problem. Images of an earlier run are reused.
    """
    maps, problems, names = {}, [], pair_set.names
    for name in progress_bar(names, "resize", len(names), "image", progress):
        try:
            maps[name] = _resized(pair_set.folder / name, target, folder / _as_png(name))
        except ValueError as error:
            problems.append(Problem(name, str(error)))
    pairs = [
        replace(
            pair,
            name0=_as_png(pair.name0),
            name1=_as_png(pair.name1),
            homography=maps[pair.name1] @ pair.homography @ np.linalg.inv(maps[pair.name0]),
        )
        for pair in pair_set.pairs
        if pair.name0 in maps and pair.name1 in maps
    ]
    return replace(pair_set, folder=folder, pairs=pairs, problems=[*pair_set.problems, *problems])


def _as_png(name: str) -> str:
    return Path(name).with_suffix(".png").as_posix()


def _resized(source: Path, target: Size, path: Path) -> np.ndarray:
    """Write a resized image unless it exists; return the 3×3 that maps pixels to it."""
    provenance = Provenance(
        "resized image",
        conf={"size": list(target)},
        inputs={"image": file_hash(source)},
        revisions={"resize": _VERSION},
    )
    artifact = Artifact(path, provenance)

    def write(part: Path) -> dict[str, Any]:
        image, matrix = resize_and_crop(read_image(source), target)
        Image.fromarray(image).save(part, "PNG")
        return {"matrix": matrix.tolist()}

    if artifact.reason_to_make():
        artifact.make(write)
    return np.array(artifact.facts["matrix"])
