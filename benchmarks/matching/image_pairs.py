"""Image pairs with their truth, and what may be wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.record import Problem
from featplug.io.images import IMAGE_SUFFIXES, read_image_size
from featplug.metrics.homography import corner_error, overlap

_LEAST_OVERLAP = 0.01
"""Of image 0 in image 1; the hardest pairs of the known data sets have ten times as much."""
_STILL = 2.0
"""Pixels that a camera that did not move shifts the corners by, at most."""


@dataclass(frozen=True)
class ImagePair:
    """Two images of one scene and how they are related; coordinates have pixel centres at integers.

    At least one of the three truths is there.
    """

    name0: str
    """Relative to the data set's folder."""
    name1: str
    sequence: str
    part: str | None = None
    """Of the data set: illumination, viewpoint, day, ….; None where it has no parts."""
    homography: np.ndarray | None = None
    """3×3, from image 0 to image 1, positive third coordinates in the image."""
    fundamental: np.ndarray | None = None
    """3×3, x1ᵀ F x0 = 0."""
    correspondences: np.ndarray | None = None
    """M×4: x, y in image 0, x, y in image 1."""


@dataclass
class PairSet:
    """The pairs of a data set on disk."""

    name: str
    """Of the data set: hpatches, oxford, rdnim, wxbs."""
    folder: Path
    pairs: list[ImagePair]
    problems: list[Problem] = field(default_factory=list)
    """Pairs that are damaged and left out."""
    sequences: tuple[str, ...] = ()
    """All that the data set has as it was released; empty where they are not known."""

    @property
    def names(self) -> list[str]:
        """The images of all pairs."""
        return list(dict.fromkeys(name for p in self.pairs for name in (p.name0, p.name1)))


def images_of(folder: Path) -> dict[str, str]:
    """Give a folder's images: their names without the suffix to their names."""
    return {
        path.stem: path.name
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    }


def read_numbers(path: Path, columns: int, rows: int | None = None) -> np.ndarray:
    """Read a matrix from a text file.

    Raises:
        ValueError: it is no such matrix; names the file.
        FileNotFoundError: there is no such file.
    """
    shape = f"{rows or 'N'}×{columns}"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing.")
    try:
        matrix = np.array(path.read_text("utf-8").split(), dtype=np.float64)
        matrix = matrix.reshape(-1 if rows is None else rows, columns)
    except ValueError as error:
        raise ValueError(f"{path} is not a matrix of {shape} numbers: {error}.") from error
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path} is not a matrix of {shape} numbers: not all are finite.")
    return matrix


def read_homography(path: Path) -> np.ndarray:
    """Read a 3×3 homography.

    Raises:
        ValueError: it is none; names the file.
        FileNotFoundError: there is no such file.
    """
    try:
        matrix = read_numbers(path, 3, 3)
    except ValueError as error:
        raise ValueError(f"{path} is not a 3×3 homography: {error}") from error
    # Judged at the size of the entries of a homography between images.
    if np.linalg.cond(matrix) > 1e12:
        raise ValueError(f"{path} is not a 3×3 homography: it cannot be inverted.")
    return -matrix if matrix[2, 2] < 0 else matrix


def check_sizes(folder: Path, pair: ImagePair) -> None:
    """Refuse images of other sizes than their homography expects, as far as that can be told.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: one is damaged, no part of image 0 is in image 1, or the camera stood still but
            the sizes differ.
    """
    sizes = read_image_size(folder / pair.name0), read_image_size(folder / pair.name1)
    if pair.homography is None:
        return
    shown = " and ".join(f"{width}×{height}" for width, height in sizes)
    if overlap(pair.homography, sizes) < _LEAST_OVERLAP:
        raise ValueError(
            f"The homography from {folder / pair.name0} to {Path(pair.name1).name} sends all of it "
            f"out of the image: the images of {shown} pixels, or the homography, are others than "
            "those of the data set."
        )
    moved = corner_error(np.eye(3), pair.homography, sizes[0])
    if sizes[0] != sizes[1] and moved < _STILL:
        raise ValueError(
            f"{folder / pair.name0} and {Path(pair.name1).name} have {shown} pixels, but their "
            "homography moves nothing: one of them was resized."
        )


def add_pairs(found: PairSet, candidates: list[tuple[Path, ImagePair | Exception]]) -> None:
    """Keep the pairs that can be measured, and make the others problems.

    Args:
        found: gets both.
        candidates: for each pair the file of its truth, and the pair or why it cannot be read.
    """
    for truth, pair in candidates:
        reason: Exception | None = pair if isinstance(pair, Exception) else None
        if isinstance(pair, ImagePair):
            try:
                check_sizes(found.folder, pair)
                found.pairs.append(pair)
            except (ValueError, FileNotFoundError) as error:
                reason = error
        if reason is not None:
            subject = truth.relative_to(found.folder).as_posix()
            found.problems.append(Problem(subject, str(reason)))
