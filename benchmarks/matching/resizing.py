"""Images of one size, as LISRD's protocol has them, with the homographies that go with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from benchmarks.matching.image_pairs import PairSet
from benchmarks.record import Problem
from featplug.io.files import write_whole
from featplug.io.images import file_fingerprint, read_image
from featplug.metrics.homography import Size
from featplug.utils.progress import progress_bar

_RECORD = "sources.json"


def resize_and_crop(image: np.ndarray, target: Size) -> tuple[np.ndarray, np.ndarray]:
    """Resize until both sides are long enough, and cut out the middle (LISRD's ``--resize``).

    Args:
        image: H×W×3 uint8.
        target: (width, height).

    Returns:
        The image, and the 3×3 that maps pixels of the given one to it, integers being centres of
        both. (The authors' code leaves out the half pixels and the rounding of sizes.)
    """
    size = np.array(image.shape[1::-1])
    wanted = np.array(target)
    scale = np.max(wanted / size)
    resized = np.maximum(np.round(size * scale).astype(int), wanted)
    first = np.minimum(np.round((size * scale - wanted) / 2).astype(int), resized - wanted)
    ratio = resized / size
    shift = (ratio - 1) / 2 - first
    matrix = np.array([[ratio[0], 0, shift[0]], [0, ratio[1], shift[1]], [0, 0, 1]])
    image = cv2.resize(image, resized.tolist(), interpolation=cv2.INTER_LINEAR)
    (left, top), (width, height) = first, target
    return image[top : top + height, left : left + width], matrix


def resized_pairs(pair_set: PairSet, target: Size, folder: Path, progress: bool = False) -> PairSet:
    """Write a data set's images in one size, unless they are there, and adapt its homographies.

    Args:
        pair_set: pairs with homographies; those with an image that cannot be read become problems.
        target: (width, height).
        folder: gets the images as PNG.
        progress: show a bar.
    """
    record_path = folder / _RECORD
    record = json.loads(record_path.read_text("utf-8")) if record_path.exists() else {}
    maps, unreadable = {}, {}
    names = pair_set.names
    for name in progress_bar(names, "resize", len(names), "image", progress):
        fingerprint = file_fingerprint(pair_set.folder / name)
        path = (folder / name).with_suffix(".png")
        entry = record.get(name)
        if entry is None or entry["fingerprint"] != fingerprint or not path.exists():
            try:
                image, matrix = resize_and_crop(read_image(pair_set.folder / name), target)
            except ValueError as error:
                unreadable[name] = str(error)
                continue
            _write(path, image)
            entry = record[name] = {"fingerprint": fingerprint, "matrix": matrix.tolist()}
        maps[name] = np.array(entry["matrix"])
    text = json.dumps(record)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(record_path, lambda part: part.write_text(text, "utf-8"))
    pairs = [
        replace(
            pair,
            name0=Path(pair.name0).with_suffix(".png").as_posix(),
            name1=Path(pair.name1).with_suffix(".png").as_posix(),
            homography=maps[pair.name1] @ pair.homography @ np.linalg.inv(maps[pair.name0]),
        )
        for pair in pair_set.pairs
        if pair.name0 in maps and pair.name1 in maps
    ]
    problems = [Problem(name, reason) for name, reason in unreadable.items()]
    return replace(pair_set, folder=folder, pairs=pairs, problems=[*pair_set.problems, *problems])


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda part: Image.fromarray(image).save(part, "PNG"))
