"""Image pairs with their true geometry, and the checks of both."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.record import Problem
from featplug.io.image_files import IMAGE_SUFFIXES
from featplug.io.images import read_image_size
from featplug.io.text_tables import read_matrix
from featplug.metrics.homography import corner_error, overlap

_LEAST_OVERLAP = 0.01
"""Fraction of image 0 that lies in image 1; the hardest known pairs have ten times as much."""
_STILL = 2.0
"""Largest shift of the corners, in pixels, by a camera that did not move."""


@dataclass(frozen=True)
class ImagePair:
    """Two images of one scene, and at least one of four truths; pixel centres are at integers."""

    name0: str
    """Path relative to the data set's folder."""
    name1: str
    sequence: str
    part: str | None = None
    """Part of the data set: illumination, viewpoint, day, …; None where it has no parts."""
    homography: np.ndarray | None = None
    """3×3, from image 0 to image 1, with positive third coordinates in the image."""
    fundamental: np.ndarray | None = None
    """3×3 with x1ᵀ F x0 = 0."""
    correspondences: np.ndarray | None = None
    """M×4: x, y in image 0, then x, y in image 1."""
    intrinsics: tuple[np.ndarray, np.ndarray] | None = None
    """K of both images, 3×3, where they are known; images are undistorted."""
    cam1_from_cam0: np.ndarray | None = None
    """Pose 3×4 of camera 0's coordinates in camera 1."""
    unit: str | None = None
    """Unit of the pose's translation, such as m; None where its length is not known."""


@dataclass
class PairSet:
    """The pairs of a data set on disk."""

    name: str
    """Name of the data set: hpatches, oxford, rdnim, wxbs."""
    folder: Path
    pairs: list[ImagePair]
    problems: list[Problem] = field(default_factory=list)
    """Damaged pairs, which are left out."""
    sequences: tuple[str, ...] = ()
    """All sequences of the released data set; empty where they are not known."""

    @property
    def names(self) -> list[str]:
        """Images of all pairs."""
        return list(dict.fromkeys(name for p in self.pairs for name in (p.name0, p.name1)))


def images_of(folder: Path) -> dict[str, str]:
    """Map the names of a folder's images without their suffix to the whole names."""
    files = sorted(folder.iterdir())
    return {path.stem: path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES}


def read_homography(path: Path) -> np.ndarray:
    """Read a 3×3 homography.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a homography.
    """
    matrix = read_matrix(path, 3, 3, "homography")
    # A good homography has a large condition number, too: its entries are of very different sizes.
    if np.linalg.cond(matrix) > 1e12:
        raise ValueError(f"{path} is not a 3×3 homography: it cannot be inverted; get it again.")
    return -matrix if matrix[2, 2] < 0 else matrix


def read_fundamental_matrix(path: Path) -> np.ndarray:
    """Read a 3×3 fundamental matrix.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a fundamental matrix.
    """
    matrix = read_matrix(path, 3, 3, "fundamental matrix")
    values = np.linalg.svd(matrix, compute_uv=False)
    if values[1] <= 1e-12 * values[0]:
        raise ValueError(f"{path} is not a fundamental matrix: its rank is below 2; get it again.")
    return matrix


def check_sizes(folder: Path, pair: ImagePair) -> None:
    """Reject images whose sizes do not fit their homography, as far as that is noticeable.

    Raises:
        FileNotFoundError: an image is missing.
        ValueError: an image is damaged, image 0 lies outside of image 1, or the camera stood still
            but the sizes differ.
    """
    sizes = read_image_size(folder / pair.name0), read_image_size(folder / pair.name1)
    if pair.homography is None:
        return
    shown = " and ".join(f"{width}×{height}" for width, height in sizes)
    if overlap(pair.homography, sizes) < _LEAST_OVERLAP:
        raise ValueError(
            f"The homography from {folder / pair.name0} to {Path(pair.name1).name} sends all of it "
            f"out of the image: the images of {shown} pixels or the homography are not those of "
            "the data set; download them again."
        )
    moved = corner_error(np.eye(3), pair.homography, sizes[0])
    if sizes[0] != sizes[1] and moved < _STILL:
        raise ValueError(
            f"{folder / pair.name0} and {Path(pair.name1).name} have {shown} pixels, but their "
            "homography moves nothing: one of them was resized."
        )


def add_pair(pair_set: PairSet, truth: Path, read: Callable[[], ImagePair]) -> None:
    """Add the pair that ``read`` returns, or a problem with the file of its truth."""
    try:
        pair = read()
        check_sizes(pair_set.folder, pair)
    except (ValueError, FileNotFoundError) as error:
        subject = truth.relative_to(pair_set.folder).as_posix()
        pair_set.problems.append(Problem(subject, str(error)))
    else:
        pair_set.pairs.append(pair)
